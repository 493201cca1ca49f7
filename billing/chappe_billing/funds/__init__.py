"""Money in and out of tenants' funds: payments, refunds, chargebacks, gifts, debts given up, and their reversals."""
