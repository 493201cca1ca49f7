"""Rules about legal entities' books: whose they are, what takes back what, what was announced, what was decided."""

from chappe_billing.audit.rule import Rule

BOOKS = (
    Rule(
        "a transaction and its entries are in one legal entity's books and currency",
        """
        SELECT e.transaction_id || ' line ' || e.line, t.legal_entity_id, a.legal_entity_id
        FROM ledger_entry e
        JOIN ledger_transaction t ON t.id = e.transaction_id
        JOIN ledger_account a ON a.id = e.account_id
        LEFT JOIN legal_entity l ON l.id = t.legal_entity_id AND l.currency = t.currency
        WHERE t.legal_entity_id <> a.legal_entity_id OR a.currency <> t.currency OR l.id IS NULL
        """,
    ),
    Rule(
        "a tenant's money is in its own legal entity's books",
        """
        SELECT a.tenant_id, t.legal_entity_id, a.legal_entity_id
        FROM ledger_account a
        LEFT JOIN tenant t ON t.id = a.tenant_id
        LEFT JOIN budget b ON b.tenant_id = a.tenant_id
        WHERE a.tenant_id IS NOT NULL
          AND (a.legal_entity_id, a.currency) IS DISTINCT FROM (t.legal_entity_id, b.currency)
        UNION ALL
        SELECT b.tenant_id, t.legal_entity_id, b.legal_entity_id
        FROM budget b LEFT JOIN tenant t ON t.id = b.tenant_id
        WHERE b.legal_entity_id IS DISTINCT FROM t.legal_entity_id
        """,
    ),
    Rule(
        "a transaction is announced once, under its own id",
        """
        SELECT t.id, 1, 0 FROM ledger_transaction t LEFT JOIN outbox o ON o.id = t.id WHERE o.id IS NULL
        """,
    ),
    Rule(
        "a reversal is the opposite of what it names",
        """
        WITH sums AS (
            SELECT e.transaction_id, e.account_id, sum(e.amount_nano) AS amount
            FROM ledger_entry e WHERE e.transaction_id IN (
                SELECT id FROM ledger_transaction WHERE kind = 'reversal'
                UNION SELECT reverses FROM ledger_transaction WHERE kind = 'reversal'
            ) GROUP BY 1, 2
        ), reversed AS (
            SELECT t.id, s.account_id, -s.amount AS amount
            FROM ledger_transaction t JOIN sums s ON s.transaction_id = t.reverses WHERE t.kind = 'reversal'
        ), posted AS (
            SELECT t.id, s.account_id, s.amount
            FROM ledger_transaction t JOIN sums s ON s.transaction_id = t.id WHERE t.kind = 'reversal'
        )
        SELECT coalesce(r.id, p.id) || ' ' || account_id, r.amount, p.amount
        FROM reversed r FULL JOIN posted p USING (id, account_id) WHERE r.amount IS DISTINCT FROM p.amount
        """,
    ),
    Rule(
        "what takes something back is in the same books, of the same tenant if it had one, and later",
        """
        SELECT t.id, r.tenant_id, t.tenant_id
        FROM ledger_transaction t LEFT JOIN ledger_transaction r ON r.id = t.reverses
        WHERE t.reverses IS NOT NULL AND (
            r.id IS NULL OR r.created_at > t.created_at
            OR r.legal_entity_id <> t.legal_entity_id
            OR r.kind <> 'suspense' AND r.tenant_id IS DISTINCT FROM t.tenant_id
        )
        """,
    ),
    Rule(
        "no more of a payment goes back than came in",
        """
        WITH moved AS (
            SELECT t.id, t.kind, t.reverses, sum(e.amount_nano) AS amount
            FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
            WHERE t.kind IN ('top_up', 'refund', 'chargeback', 'reversal') GROUP BY t.id
        )
        SELECT p.id, p.amount, -sum(b.amount + coalesce(r.amount, 0))
        FROM moved p JOIN moved b ON b.reverses = p.id LEFT JOIN moved r ON r.reverses = b.id
        WHERE p.kind = 'top_up' GROUP BY p.id, p.amount HAVING -sum(b.amount + coalesce(r.amount, 0)) > p.amount
        """,
    ),
    Rule(
        "no more of a payment in suspense is settled than came in",
        """
        WITH moved AS (
            SELECT t.id, t.kind, t.tenant_id, t.reverses, sum(e.amount_nano) AS amount
            FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'suspense' GROUP BY t.id
        ), settled AS (
            SELECT s.reverses AS id, s.amount + coalesce(r.amount, 0) AS amount
            FROM moved s LEFT JOIN moved r ON r.reverses = s.id
        ), taken AS (
            SELECT id, -sum(amount) AS amount FROM settled GROUP BY id
        )
        SELECT p.id, p.amount, t.amount
        FROM moved p LEFT JOIN taken t USING (id)
        WHERE p.kind = 'suspense' AND (p.amount <= 0 OR t.amount > p.amount)
        """,
    ),
    Rule(
        "what leaves suspense names the payment that it came from",
        """
        SELECT t.id, 'a payment in suspense', coalesce(p.kind, 'nothing')
        FROM ledger_transaction t
        JOIN ledger_entry e ON e.transaction_id = t.id
        JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'suspense'
        LEFT JOIN ledger_transaction p ON p.id = t.reverses
        LEFT JOIN ledger_transaction r ON r.id = p.reverses
        WHERE NOT CASE t.kind
            WHEN 'suspense' THEN e.amount_nano > 0 AND t.reverses IS NULL
            WHEN 'reversal' THEN coalesce(p.kind = 'suspense' OR r.kind = 'suspense', false)
            ELSE e.amount_nano < 0 AND t.kind IN ('top_up', 'refund') AND p.kind IS NOT DISTINCT FROM 'suspense'
        END
        """,
    ),
    Rule(
        "a publisher is paid no more than it ever earned",
        """
        SELECT a.publisher_id, sum(e.amount_nano) FILTER (WHERE t.kind = 'usage'),
               -sum(e.amount_nano) FILTER (WHERE t.kind IN ('publisher_share', 'reversal'))
        FROM ledger_account a
        JOIN ledger_entry e ON e.account_id = a.id
        JOIN ledger_transaction t ON t.id = e.transaction_id
        WHERE a.kind = 'publisher_payable'
        GROUP BY a.publisher_id, a.legal_entity_id
        HAVING coalesce(sum(e.amount_nano) FILTER (WHERE t.kind IN ('usage', 'publisher_share', 'reversal')), 0) < 0
            OR coalesce(sum(e.amount_nano) FILTER (WHERE t.kind IN ('publisher_share', 'reversal')), 0) > 0
        """,
    ),
    Rule(
        "a publisher's account holds its shares and what was paid out of it",
        """
        WITH held AS (
            SELECT a.publisher_id, e.transaction_id, a.region, sum(e.amount_nano) AS amount
            FROM ledger_account a
            JOIN ledger_entry e ON e.account_id = a.id
            JOIN ledger_transaction t ON t.id = e.transaction_id
            WHERE a.kind = 'publisher_payable' AND t.kind NOT IN ('publisher_share', 'reversal')
            GROUP BY 1, 2, 3
        ), shared AS (
            SELECT publisher_id, transaction_id, region, sum(share_nano) AS amount
            FROM publisher_share GROUP BY 1, 2, 3 HAVING sum(share_nano) <> 0
        )
        SELECT transaction_id || ' ' || publisher_id, s.amount, h.amount
        FROM held h FULL JOIN shared s USING (publisher_id, transaction_id, region)
        WHERE s.amount IS DISTINCT FROM h.amount
        """,
    ),
    Rule(
        "no more of a publisher's share is taken back than was posted",
        """
        SELECT t.tenant_id || ' ' || s.publisher_id || ' ' || s.listing_id,
               sum(s.share_nano) FILTER (WHERE s.share_nano > 0), -sum(s.share_nano) FILTER (WHERE s.share_nano < 0)
        FROM publisher_share s JOIN ledger_transaction t ON t.id = s.transaction_id
        GROUP BY t.tenant_id, s.publisher_id, s.listing_id, s.region, s.share_bp HAVING sum(s.share_nano) < 0
        """,
    ),
    Rule(
        "what was decided about quarantined usage was posted, or was not",
        """
        SELECT d.request_id, d.decision || ' ' || d.amount_nano, coalesce(u.amount_nano::text, 'not posted')
        FROM usage_quarantine_decision d
        LEFT JOIN usage_event u ON u.request_id = d.request_id
        LEFT JOIN usage_quarantine q ON q.request_id = d.request_id AND q.digest = d.digest
        WHERE q.request_id IS NULL OR CASE d.decision
            WHEN 'written_off' THEN u.request_id IS NOT NULL
            WHEN 'dismissed' THEN u.request_id IS NULL
            ELSE (d.amount_nano, d.transaction_id) IS DISTINCT FROM (u.amount_nano, u.transaction_id)
        END
        """,
    ),
    Rule(
        "usage that was given up is the operator's loss",
        """
        WITH lost AS (
            SELECT t.id, -sum(e.amount_nano) AS amount
            FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'write_off'
            WHERE t.kind = 'write_off' AND t.tenant_id IS NULL GROUP BY t.id
        ), decided AS (
            SELECT transaction_id AS id, amount_nano AS amount
            FROM usage_quarantine_decision WHERE decision = 'written_off' AND amount_nano <> 0
        )
        SELECT id, d.amount, l.amount FROM lost l FULL JOIN decided d USING (id)
        WHERE l.amount IS DISTINCT FROM d.amount
        """,
    ),
)
