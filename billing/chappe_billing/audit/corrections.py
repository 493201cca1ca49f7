"""Rules about what was given back or agreed: discrepancies, reverted prices, and contracts at a month's end."""

from chappe_billing.audit.rule import Rule

DISCREPANCIES = (
    Rule(
        "a correction is what its discrepancy or wrong price says, out of revenue and the publisher's share",
        """
        WITH posted AS (
            SELECT t.id, t.tenant_id,
                   sum(e.amount_nano) FILTER (WHERE a.kind = 'tenant_funds') AS given,
                   sum(e.amount_nano) FILTER (WHERE a.kind IN ('revenue', 'publisher_payable')) AS taken
            FROM ledger_transaction t
            LEFT JOIN ledger_entry e ON e.transaction_id = t.id
            LEFT JOIN ledger_account a ON a.id = e.account_id
            WHERE t.kind = 'usage_correction' GROUP BY t.id
        )
        SELECT coalesce(p.id, d.transaction_id), d.corrected_nano, p.given
        FROM posted p
        FULL JOIN (
            SELECT transaction_id, tenant_id, corrected_nano FROM usage_discrepancy WHERE transaction_id IS NOT NULL
            UNION ALL SELECT transaction_id, tenant_id, corrected_nano FROM price_correction
        ) d ON d.transaction_id = p.id
        WHERE (d.corrected_nano, -d.corrected_nano, d.tenant_id) IS DISTINCT FROM (p.given, p.taken, p.tenant_id)
        """,
    ),
    Rule(
        "no more is given back for a request than was paid for it",
        """
        SELECT d.request_id, u.amount_nano - u.written_off_nano, sum(d.corrected_nano)
        FROM usage_discrepancy d LEFT JOIN usage_event u ON u.request_id = d.request_id
        WHERE d.corrected_nano IS NOT NULL AND d.request_id >= (SELECT first_request_id FROM usage_kept)
        GROUP BY d.request_id, u.amount_nano, u.written_off_nano
        HAVING sum(d.corrected_nano) > coalesce(u.amount_nano - u.written_off_nano, 0)
        """,
    ),
)

CONTRACTS = (
    Rule(
        "no more is given back for a wrong price than was paid under it",
        """
        SELECT c.tenant_id || ' ' || c.price_version_id, coalesce(d.paid, 0), c.given
        FROM (
            SELECT tenant_id, price_version_id, sum(corrected_nano) AS given FROM price_correction GROUP BY 1, 2
        ) c
        LEFT JOIN (
            SELECT tenant_id, price_version_id, sum(amount_nano - written_off_nano) AS paid
            FROM usage_price_day GROUP BY 1, 2
        ) d ON d.tenant_id = c.tenant_id AND d.price_version_id = c.price_version_id
        WHERE c.given > coalesce(d.paid, 0)
        """,
    ),
    Rule(
        "an entry at cut-off is what its transaction did to the tenant's funds",
        """
        WITH posted AS (
            SELECT t.id, t.tenant_id, t.kind,
                   sum(e.amount_nano) FILTER (WHERE a.kind = 'tenant_funds') AS moved,
                   sum(e.amount_nano) FILTER (WHERE a.kind = 'revenue') AS earned
            FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id
            WHERE t.kind IN ('volume_discount', 'minimum_fee', 'commitment_fee') GROUP BY t.id
        ), wanted AS (
            SELECT c.transaction_id, c.tenant_id, c.month, c.amount_nano,
                   CASE k.kind WHEN 'volume_discount' THEN k.kind ELSE k.kind || '_fee' END AS kind
            FROM cut_off_entry c JOIN contract_term k ON k.id = c.term_id WHERE c.amount_nano <> 0
        )
        SELECT coalesce(p.tenant_id, w.tenant_id) || ' ' || w.month, w.amount_nano, p.moved
        FROM posted p FULL JOIN wanted w ON w.transaction_id = p.id
        WHERE (w.amount_nano, -w.amount_nano, w.tenant_id, w.kind)
            IS DISTINCT FROM (p.moved, p.earned, p.tenant_id, p.kind)
        """,
    ),
)
