"""Requests for payment that are withdrawn, and a tenant's cash at the payment service.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import make_append_only, protect_tenant_table
from chappe_store.session import Role

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _widen_calls()
    _create_cash()


def _widen_calls() -> None:
    op.execute(
        """
        ALTER TABLE payment_call
            DROP CONSTRAINT ck_payment_call_kind,
            DROP CONSTRAINT ck_payment_call_state,
            DROP CONSTRAINT ck_payment_call_ended,
            ADD CONSTRAINT ck_payment_call_kind CHECK (kind IN (
                'customer', 'checkout', 'setup', 'charge', 'invoice', 'refund', 'forget_method', 'withdraw', 'usage'
            )),
            ADD CONSTRAINT ck_payment_call_state
                CHECK (state IN ('waiting', 'done', 'refused', 'poisoned', 'withdrawn')),
            ADD CONSTRAINT ck_payment_call_ended
                CHECK ((state IN ('done', 'refused', 'withdrawn')) = (ended_at IS NOT NULL))
        """
    )
    op.execute(
        """
        ALTER TABLE payment_call_attempt
            DROP CONSTRAINT ck_payment_call_attempt_outcome,
            ADD CONSTRAINT ck_payment_call_attempt_outcome
                CHECK (outcome IN ('done', 'found', 'refused', 'later', 'poisoned', 'again', 'withdrawn'))
        """
    )
    # A payment is withdrawn by one call.
    op.execute("CREATE UNIQUE INDEX uq_payment_call_withdraw ON payment_call (payment_id) WHERE kind = 'withdraw'")


def _create_cash() -> None:
    op.execute(
        """
        CREATE TABLE payment_cash (
            tenant_id uuid NOT NULL
                CONSTRAINT fk_payment_cash_tenant_id_payment_customer REFERENCES payment_customer,
            service_id text CONSTRAINT pk_payment_cash PRIMARY KEY
                CONSTRAINT ck_payment_cash_service_id CHECK (length(service_id) BETWEEN 4 AND 255),
            kind text NOT NULL CONSTRAINT ck_payment_cash_kind CHECK (length(kind) BETWEEN 1 AND 50),
            currency text NOT NULL CONSTRAINT ck_payment_cash_currency CHECK (currency ~ '^[A-Z]{3}$'),
            net_minor bigint NOT NULL,
            counted_minor bigint NOT NULL
                CONSTRAINT ck_payment_cash_counted_minor CHECK (counted_minor IN (0, net_minor)),
            payment_id uuid,
            transaction_id uuid CONSTRAINT fk_payment_cash_transaction_id_ledger_transaction
                REFERENCES ledger_transaction,
            seen_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT fk_payment_cash_tenant_id_payment_id_payment
                FOREIGN KEY (tenant_id, payment_id) REFERENCES payment (tenant_id, id)
        )
        """
    )
    op.execute("CREATE INDEX ix_payment_cash_tenant_id_payment_id ON payment_cash (tenant_id, payment_id)")
    protect_tenant_table("payment_cash", {Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("payment_cash")
