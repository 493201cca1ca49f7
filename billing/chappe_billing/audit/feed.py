"""Rules about the rated-usage feed."""

from chappe_billing.audit.rule import Rule

FEED = (
    Rule(
        "what moves a tenant's money is in the feed once, or waits for it",
        """
        SELECT t.id, 'in a batch or waiting', CASE WHEN w.id IS NULL THEN 'neither' ELSE 'both' END
        FROM ledger_transaction t
        LEFT JOIN rated_usage_entry f ON f.transaction_id = t.id
        LEFT JOIN rated_usage_waiting w ON w.id = t.id AND NOT w.is_event
        WHERE (f.sequence IS NULL) = (w.id IS NULL)
          AND EXISTS (SELECT FROM ledger_entry e WHERE e.transaction_id = t.id AND e.tenant_id = t.tenant_id)
        UNION ALL
        SELECT u.request_id, 'in a batch or waiting', CASE WHEN w.id IS NULL THEN 'neither' ELSE 'both' END
        FROM usage_event u
        LEFT JOIN rated_usage_entry f ON f.request_id = u.request_id
        LEFT JOIN rated_usage_waiting w ON w.id = u.request_id AND w.is_event
        WHERE u.transaction_id IS NULL AND (f.sequence IS NULL) = (w.id IS NULL)
        """,
    ),
    Rule(
        "the feed charges a tenant what the ledger does",
        """
        SELECT f.sequence || ' ' || f.position, coalesce(l.charged, 0), f.amount_nano
        FROM rated_usage_entry f
        LEFT JOIN (
            SELECT t.id, t.tenant_id, t.kind, t.currency, -sum(e.amount_nano) AS charged
            FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id AND e.tenant_id = t.tenant_id GROUP BY t.id
        ) l ON l.id = f.transaction_id
        WHERE (f.amount_nano, f.transaction_id) IS DISTINCT FROM (coalesce(l.charged, 0), l.id)
           OR f.transaction_id IS NOT NULL
              AND (f.tenant_id, f.kind, f.currency) IS DISTINCT FROM (l.tenant_id, l.kind, l.currency)
        """,
    ),
    Rule(
        "the feed's batches are numbered without a gap, each after the one before",
        """
        SELECT sequence, wanted, found FROM (
            SELECT sequence,
                   ROW(row_number() OVER w, coalesce(sum(records) OVER before, 0), lag(chain) OVER w)::text AS wanted,
                   ROW(sequence, records_before::numeric, previous)::text AS found
            FROM rated_usage_batch
            WINDOW w AS (ORDER BY sequence),
                   before AS (ORDER BY sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        ) numbered WHERE wanted <> found
        """,
    ),
    Rule(
        "a batch's totals are the sums of what is in it",
        """
        WITH summed AS (
            SELECT sequence, kind, currency, sum(records) AS records, sum(amount_nano) AS amount_nano
            FROM rated_usage_entry GROUP BY 1, 2, 3
        ), said AS (
            SELECT sequence, t ->> 'kind' AS kind, t ->> 'currency' AS currency, (t ->> 'records')::numeric AS records,
                   (t ->> 'amount')::numeric * 1000000000 AS amount_nano
            FROM rated_usage_batch, jsonb_array_elements(totals) t
        )
        SELECT sequence || ' ' || kind || ' ' || currency, ROW(s.records, s.amount_nano), ROW(d.records, d.amount_nano)
        FROM summed s FULL JOIN said d USING (sequence, kind, currency)
        WHERE (s.records, s.amount_nano) IS DISTINCT FROM (d.records, d.amount_nano)
        """,
    ),
)
