"""Rules about invoices: their numbers, what is in them, what covers them, and what is open of them."""

from chappe_billing.audit.rule import Rule

_CHARGES = "('usage', 'usage_correction', 'volume_discount', 'minimum_fee', 'commitment_fee')"

INVOICES = (
    Rule(
        "the numbers of a series have no gap",
        """
        SELECT legal_entity_id || ' ' || series, c.last_ordinal, ROW(i.invoices, i.first, i.last)
        FROM invoice_counter c FULL JOIN (
            SELECT legal_entity_id, series, count(*) AS invoices, min(ordinal) AS first, max(ordinal) AS last
            FROM invoice GROUP BY 1, 2
        ) i USING (legal_entity_id, series)
        WHERE (c.last_ordinal, 1::bigint, c.last_ordinal) IS DISTINCT FROM (i.invoices, i.first, i.last)
        """,
    ),
    Rule(
        "a cut is the sum of the transactions that are invoiced with it",
        """
        WITH charged AS (
            SELECT x.cut_id, -sum(e.amount_nano) AS amount
            FROM invoice_transaction x
            JOIN ledger_transaction t ON t.id = x.transaction_id AND t.tenant_id = x.tenant_id
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds' AND a.tenant_id = x.tenant_id
            GROUP BY 1
        )
        SELECT c.id, coalesce(s.amount, 0), c.charged_nano
        FROM invoice_cut c LEFT JOIN charged s ON s.cut_id = c.id
        WHERE c.charged_nano IS DISTINCT FROM coalesce(s.amount, 0)
        """,
    ),
    Rule(
        "what is invoiced of a cut is the cut, and the lines are that and the rounding",
        """
        SELECT c.id, c.charged_nano, sum(p.charged_nano)
        FROM invoice_cut c
        LEFT JOIN invoice_part p ON p.cut_id = c.id
        LEFT JOIN invoice i ON i.id = p.invoice_id AND i.kind = 'invoice'
        GROUP BY c.id, c.charged_nano
        HAVING c.charged_nano IS DISTINCT FROM sum(p.charged_nano)
            OR bool_or(p.charged_nano + p.rounding_nano <> p.lines_minor * (10 ^ (9 - i.minor_digits))::numeric)
        """,
    ),
    Rule(
        "a document's amounts are the sums of its parts, and what it says",
        """
        SELECT i.number, ROW(i.net_minor, i.tax_minor, i.gross_minor), ROW(p.net, p.tax, p.gross)
        FROM invoice i LEFT JOIN (
            SELECT invoice_id, sum(net_minor) AS net, sum(tax_minor) AS tax, sum(gross_minor) AS gross
            FROM invoice_part GROUP BY 1
        ) p ON p.invoice_id = i.id
        WHERE (i.net_minor, i.tax_minor, i.gross_minor) IS DISTINCT FROM (p.net, p.tax, p.gross)
           OR (i.net_minor, i.tax_minor, i.gross_minor, i.paid_minor, i.number) IS DISTINCT FROM (
               (i.content ->> 'net_minor')::bigint, (i.content ->> 'tax_minor')::bigint,
               (i.content ->> 'gross_minor')::bigint, (i.content ->> 'paid_minor')::bigint, i.content ->> 'number'
           )
           OR i.net_minor <> (
               SELECT coalesce(sum((l ->> 'net_minor')::bigint), 0) FROM jsonb_array_elements(i.content -> 'lines') l
           ) - (
               SELECT coalesce(sum((a ->> 'net_minor')::bigint), 0)
               FROM jsonb_array_elements(i.content -> 'allowances') a
           )
        """,
    ),
    Rule(
        "an invoice is posted as it says",
        """
        WITH posted AS (
            SELECT e.transaction_id,
                   coalesce(sum(e.amount_nano) FILTER (WHERE a.kind = 'receivable'), 0) AS receivable,
                   coalesce(sum(e.amount_nano) FILTER (WHERE a.kind = 'vat_payable'), 0) AS tax,
                   coalesce(sum(e.amount_nano) FILTER (WHERE a.kind = 'rounding'), 0) AS rounding
            FROM ledger_entry e
            JOIN ledger_account a ON a.id = e.account_id
            JOIN ledger_transaction t ON t.id = e.transaction_id AND t.kind = 'invoice' GROUP BY 1
        ), said AS (
            SELECT p.transaction_id, p.rounding_nano, p.tax_minor * m.nano AS tax,
                   coalesce((SELECT sum(s.amount_nano) FROM invoice_settlement s
                             WHERE s.transaction_id = p.transaction_id), 0) - p.gross_minor * m.nano AS receivable
            FROM invoice_part p
            JOIN invoice i ON i.id = p.invoice_id AND i.kind = 'invoice',
            LATERAL (SELECT (10 ^ (9 - i.minor_digits))::numeric AS nano) m
            WHERE p.transaction_id IS NOT NULL OR p.gross_minor <> 0 OR p.rounding_nano <> 0
        )
        SELECT coalesce(l.transaction_id, s.transaction_id), ROW(s.receivable, s.tax, s.rounding_nano),
               ROW(l.receivable, l.tax, l.rounding)
        FROM posted l FULL JOIN said s ON s.transaction_id = l.transaction_id
        WHERE (s.receivable, s.tax, s.rounding_nano) IS DISTINCT FROM (l.receivable, l.tax, l.rounding)
        """,
    ),
    Rule(
        "what a tenant owes by invoices is what is open of them",
        """
        WITH owed AS (
            SELECT a.tenant_id, -sum(e.amount_nano) AS amount
            FROM ledger_entry e JOIN ledger_account a ON a.id = e.account_id
            WHERE a.kind = 'receivable' GROUP BY 1
        ), open AS (
            SELECT p.tenant_id, sum(p.gross_minor * (10 ^ (9 - i.minor_digits))::numeric - coalesce((
                SELECT sum(s.amount_nano) FROM invoice_settlement s
                WHERE s.invoice_id = p.invoice_id AND s.tenant_id = p.tenant_id
            ), 0)) AS amount
            FROM invoice_part p JOIN invoice i ON i.id = p.invoice_id AND i.kind = 'invoice' GROUP BY 1
        )
        SELECT tenant_id, coalesce(n.amount, 0), coalesce(w.amount, 0)
        FROM owed w FULL JOIN open n USING (tenant_id) WHERE coalesce(w.amount, 0) <> coalesce(n.amount, 0)
        """,
    ),
    Rule(
        "what is kept as open of an invoice is its amount less what settled it",
        """
        WITH summed AS (
            SELECT i.id, i.gross_minor * (10 ^ (9 - i.minor_digits))::numeric - coalesce((
                SELECT sum(s.amount_nano) FROM invoice_settlement s WHERE s.invoice_id = i.id
            ), 0) AS amount, i.tenant_id, i.due_on
            FROM invoice i WHERE i.kind = 'invoice'
        )
        SELECT coalesce(s.id, o.invoice_id), s.amount, o.open_nano
        FROM summed s FULL JOIN invoice_open o ON o.invoice_id = s.id
        WHERE (s.amount, s.tenant_id, s.due_on) IS DISTINCT FROM (o.open_nano, o.tenant_id, o.due_on)
        """,
    ),
    Rule(
        "no invoice is settled, and no funding used, beyond its amount",
        """
        SELECT p.invoice_id || ' ' || p.tenant_id, p.gross_minor, sum(s.amount_nano)
        FROM invoice_settlement s
        JOIN invoice_part p USING (invoice_id, tenant_id)
        JOIN invoice i ON i.id = p.invoice_id
        GROUP BY p.invoice_id, p.tenant_id, p.gross_minor, i.minor_digits
        HAVING sum(s.amount_nano) NOT BETWEEN 0 AND p.gross_minor * (10 ^ (9 - i.minor_digits))::numeric
        UNION ALL
        SELECT f.funding_id::text, coalesce(m.amount, 0)::bigint, sum(f.amount_nano)
        FROM invoice_funding f
        LEFT JOIN LATERAL (
            SELECT sum(e.amount_nano) AS amount FROM ledger_entry e
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
            WHERE e.transaction_id = f.funding_id
        ) m ON true
        GROUP BY f.funding_id, m.amount HAVING sum(f.amount_nano) NOT BETWEEN 0 AND coalesce(m.amount, 0)
        """,
    ),
    Rule(
        "a tenant's funds are what is left of what was put in, less what is charged and not invoiced",
        f"""
        WITH moved AS (
            SELECT t.tenant_id, t.id, t.kind, sum(e.amount_nano) AS amount,
                   coalesce(r.kind, t.kind) IN {_CHARGES} AS is_charge
            FROM ledger_transaction t
            JOIN ledger_entry e ON e.transaction_id = t.id
            JOIN ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds'
            LEFT JOIN ledger_transaction r ON r.id = t.reverses AND t.kind = 'reversal'
            GROUP BY t.id, r.kind
        ), funds AS (
            SELECT m.tenant_id, sum(m.amount) AS amount,
                   coalesce(sum(m.amount) FILTER (WHERE m.is_charge AND x.transaction_id IS NULL), 0) AS unbilled,
                   coalesce(sum(m.amount) FILTER (WHERE NOT m.is_charge AND m.kind <> 'invoice'), 0) AS put_in
            FROM moved m LEFT JOIN invoice_transaction x ON x.transaction_id = m.id GROUP BY 1
        ), used AS (
            SELECT f.tenant_id, sum(f.amount_nano) FILTER (WHERE i.kind = 'invoice') AS amount
            FROM invoice_funding f JOIN invoice i ON i.id = f.invoice_id GROUP BY 1
        )
        SELECT f.tenant_id, f.put_in - coalesce(u.amount, 0) + f.unbilled, f.amount
        FROM funds f LEFT JOIN used u USING (tenant_id)
        WHERE f.put_in - coalesce(u.amount, 0) + f.unbilled <> f.amount
        """,  # noqa: S608  # of our own
    ),
    Rule(
        "what was charged before a cut-off is invoiced by the next, or waits where it is looked for",
        f"""
        SELECT t.id, c.cut_off_at, t.created_at
        FROM ledger_transaction t
        JOIN (SELECT tenant_id, max(cut_off_at) AS cut_off_at FROM invoice_cut GROUP BY 1) c USING (tenant_id)
        WHERE t.kind IN {_CHARGES} AND t.id <= first_request_id(c.cut_off_at - interval '7 days')
          AND NOT EXISTS (SELECT FROM invoice_transaction x WHERE x.transaction_id = t.id)
          AND NOT is_billed_elsewhere(t.legal_entity_id, t.created_at, (
              SELECT o.month FROM cut_off_entry o WHERE o.tenant_id = t.tenant_id AND o.transaction_id = t.id
          ))
          AND EXISTS (SELECT FROM ledger_entry e WHERE e.transaction_id = t.id AND e.tenant_id = t.tenant_id)
        """,  # noqa: S608  # of our own
    ),
)
