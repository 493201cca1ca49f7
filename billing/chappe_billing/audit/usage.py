"""Rules about usage: events, the ledger that they move, their rollups, and months that were dropped under seal."""

from chappe_billing.audit.rule import Rule

USAGE = (
    Rule(
        "an event costs what its price version says",
        """
        SELECT request_id, rated, amount_nano
        FROM usage_event u
        LEFT JOIN price_version p
            ON p.id = u.price_version_id AND p.listing_id = u.listing_id AND p.region = u.region,
        LATERAL (SELECT CASE
            WHEN repeats IS NOT NULL THEN 0
            WHEN prompt_tokens + completion_tokens + seconds + images = 0 THEN 0
            WHEN outcome = 'failed' AND completion_tokens + seconds + images = 0 THEN 0
            ELSE (prompt_tokens - cached_tokens)::numeric * p.input_nano_per_token
               + cached_tokens::numeric * p.cached_input_nano_per_token
               + completion_tokens::numeric * p.output_nano_per_token
               + p.request_nano
               + seconds::numeric * p.second_nano
               + images::numeric * p.image_nano
            END AS rated) r
        WHERE p.id IS NULL OR rated <> amount_nano OR p.tenant_id <> u.tenant_id
        """,
    ),
    Rule(
        "an event that is free as a repeat repeats a charged one of its project and region within 24 hours",
        """
        SELECT u.request_id, u.repeats, f.request_id
        FROM usage_event u
        LEFT JOIN usage_event f
            ON f.request_id = u.repeats AND f.request_id <> u.request_id AND f.repeats IS NULL AND f.amount_nano > 0
            AND f.idempotency_digest = u.idempotency_digest AND f.tenant_id = u.tenant_id
            AND f.project_id = u.project_id AND f.region = u.region
            AND uuid_extract_timestamp(f.request_id) - uuid_extract_timestamp(u.request_id)
                BETWEEN interval '-24 hours' AND interval '24 hours'
        WHERE u.repeats >= (SELECT first_request_id FROM usage_kept) AND f.request_id IS NULL
        """,
    ),
    Rule(
        "an event belongs to a key of its tenant and project",
        """
        SELECT u.request_id, u.key_id, NULL
        FROM usage_event u
        LEFT JOIN api_key k ON k.tenant_id = u.tenant_id AND k.id = u.key_id AND k.project_id = u.project_id
        WHERE k.id IS NULL
        """,
    ),
    Rule(
        "an event's grant is its tenant's and its region's",
        """
        SELECT u.request_id, g.tenant_id || ' ' || g.region, u.tenant_id || ' ' || u.region
        FROM usage_event u JOIN budget_grant g ON g.id = u.grant_id
        WHERE (g.tenant_id, g.region) <> (u.tenant_id, u.region)
        """,
    ),
    Rule(
        "an event is posted in the transaction that it names",
        """
        SELECT u.request_id, u.transaction_id, t.id
        FROM usage_event u
        LEFT JOIN ledger_transaction t
            ON t.id = u.transaction_id AND t.kind = 'usage' AND t.tenant_id = u.tenant_id AND t.created_at = u.posted_at
        WHERE t.id IS NULL AND (u.transaction_id IS NOT NULL OR u.amount_nano <> 0)
        """,
    ),
    Rule(
        "a usage transaction's entries are the sums of its events",
        """
        WITH posted AS (
            SELECT e.transaction_id, a.kind, a.region, sum(e.amount_nano) AS amount
            FROM ledger_entry e
            JOIN ledger_account a ON a.id = e.account_id
            JOIN ledger_transaction t ON t.id = e.transaction_id
            WHERE t.kind = 'usage' GROUP BY e.transaction_id, a.kind, a.region
        ), used AS (
            SELECT transaction_id, region, sum(amount) AS amount, sum(written_off) AS written_off FROM (
                SELECT transaction_id, region, sum(amount_nano) AS amount, sum(written_off_nano) AS written_off
                FROM usage_event WHERE transaction_id IS NOT NULL GROUP BY transaction_id, region
                UNION ALL SELECT transaction_id, region, amount_nano, written_off_nano FROM usage_sealed_posting
            ) GROUP BY transaction_id, region
        ), wanted AS (
            SELECT transaction_id, 'revenue' AS kind, region, amount FROM used
            UNION ALL SELECT transaction_id, 'tenant_funds', NULL, sum(written_off - amount) FROM used GROUP BY 1
            UNION ALL SELECT transaction_id, 'write_off', NULL, -sum(written_off) FROM used GROUP BY 1
            UNION ALL SELECT transaction_id, 'publisher_payable', region, sum(share_nano)
                      FROM publisher_share GROUP BY 1, 3
            UNION ALL SELECT transaction_id, 'revenue', region, -sum(share_nano) FROM publisher_share GROUP BY 1, 3
        ), summed AS (
            SELECT w.transaction_id, w.kind, w.region, sum(w.amount) AS amount
            FROM wanted w JOIN ledger_transaction t ON t.id = w.transaction_id AND t.kind = 'usage'
            GROUP BY 1, 2, 3 HAVING sum(w.amount) <> 0
        )
        SELECT coalesce(p.transaction_id, w.transaction_id) || ' ' || coalesce(p.kind, w.kind), w.amount, p.amount
        FROM posted p FULL JOIN summed w
            ON w.transaction_id = p.transaction_id AND w.kind = p.kind
            AND coalesce(w.region, '') = coalesce(p.region, '')
        WHERE p.amount IS DISTINCT FROM w.amount
        """,
    ),
    Rule(
        "a publisher's share is its part of what the transaction's events were paid with",
        """
        WITH paid AS (
            SELECT transaction_id, listing_id, region, sum(base) AS base FROM (
                SELECT transaction_id, listing_id, region, sum(amount_nano - written_off_nano) AS base
                FROM usage_event GROUP BY 1, 2, 3
                UNION ALL SELECT transaction_id, listing_id, region, amount_nano - written_off_nano
                          FROM usage_sealed_posting
            ) GROUP BY 1, 2, 3
        )
        SELECT s.transaction_id || ' ' || s.listing_id, p.base, s.base_nano
        FROM publisher_share s
        JOIN ledger_transaction t ON t.id = s.transaction_id AND t.kind = 'usage'
        JOIN listing l ON l.id = s.listing_id
        LEFT JOIN paid p USING (transaction_id, listing_id, region)
        WHERE s.base_nano IS DISTINCT FROM p.base OR s.share_nano <> div(s.base_nano::numeric * s.share_bp, 10000)
        """,
    ),
    Rule(
        "an hour's rollup is the sum of the events posted in it",
        """
        WITH summed AS (
            SELECT tenant_id, hour, project_id, key_id, listing_id, region,
                   ARRAY[sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
                         sum(amount_nano), sum(written_off_nano)] AS sums
            FROM (
                SELECT tenant_id, date_trunc('hour', posted_at) AS hour, project_id, key_id, listing_id, region,
                       count(*) AS requests, sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
                       sum(completion_tokens) AS completion_tokens, sum(amount_nano) AS amount_nano,
                       sum(written_off_nano) AS written_off_nano
                FROM usage_event GROUP BY 1, 2, 3, 4, 5, 6
                UNION ALL
                SELECT tenant_id, hour, project_id, key_id, listing_id, region, requests, prompt_tokens,
                       cached_tokens, completion_tokens, amount_nano, written_off_nano
                FROM usage_sealed_hour
            ) GROUP BY 1, 2, 3, 4, 5, 6
        ), kept AS (
            SELECT tenant_id, hour, project_id, key_id, listing_id, region,
                   ARRAY[requests, prompt_tokens, cached_tokens, completion_tokens,
                         amount_nano, written_off_nano]::numeric[] AS sums
            FROM usage_hour
        )
        SELECT tenant_id || ' ' || hour, s.sums, k.sums
        FROM summed s FULL JOIN kept k USING (tenant_id, hour, project_id, key_id, listing_id, region)
        WHERE s.sums IS DISTINCT FROM k.sums
        """,
    ),
    Rule(
        "what was used under a price in a day is the sum of its chargeable events",
        """
        WITH summed AS (
            SELECT tenant_id, day, project_id, price_version_id,
                   ARRAY[sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(seconds),
                         sum(images), sum(amount_nano), sum(written_off_nano)] AS sums
            FROM (
                SELECT tenant_id, (posted_at AT TIME ZONE 'UTC')::date AS day, project_id, price_version_id,
                       count(*) AS requests, sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
                       sum(completion_tokens) AS completion_tokens, sum(seconds) AS seconds, sum(images) AS images,
                       sum(amount_nano) AS amount_nano, sum(written_off_nano) AS written_off_nano
                FROM usage_event
                WHERE repeats IS NULL
                  AND (completion_tokens + seconds + images > 0 OR (prompt_tokens > 0 AND outcome <> 'failed'))
                GROUP BY 1, 2, 3, 4
                UNION ALL
                SELECT tenant_id, day, project_id, price_version_id, requests, prompt_tokens, cached_tokens,
                       completion_tokens, seconds, images, amount_nano, written_off_nano
                FROM usage_sealed_price_day
            ) GROUP BY 1, 2, 3, 4
        ), kept AS (
            SELECT tenant_id, day, project_id, price_version_id,
                   ARRAY[requests, prompt_tokens, cached_tokens, completion_tokens, seconds, images,
                         amount_nano, written_off_nano]::numeric[] AS sums
            FROM usage_price_day
        )
        SELECT tenant_id || ' ' || day || ' ' || price_version_id, s.sums, k.sums
        FROM summed s FULL JOIN kept k USING (tenant_id, day, project_id, price_version_id)
        WHERE s.sums IS DISTINCT FROM k.sums
        """,
    ),
    Rule(
        "a minute's rollup is the sum of the events posted in it",
        """
        WITH summed AS (
            SELECT tenant_id, date_trunc('minute', posted_at) AS minute, listing_id, region,
                   ARRAY[count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
                         sum(amount_nano), sum(written_off_nano)] AS sums
            FROM usage_event WHERE posted_at >= (SELECT first_minute FROM usage_kept) GROUP BY 1, 2, 3, 4
        ), kept AS (
            SELECT tenant_id, minute, listing_id, region,
                   ARRAY[requests, prompt_tokens, cached_tokens, completion_tokens,
                         amount_nano, written_off_nano]::numeric[] AS sums
            FROM usage_minute WHERE minute >= (SELECT first_minute FROM usage_kept)
        )
        SELECT tenant_id || ' ' || minute, s.sums, k.sums
        FROM summed s FULL JOIN kept k USING (tenant_id, minute, listing_id, region)
        WHERE s.sums IS DISTINCT FROM k.sums
        """,
    ),
    Rule(
        "a dropped month's hours, and its postings, sum to what was sealed of it",
        """
        WITH summed AS (
            SELECT month, ARRAY[sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
                                sum(amount_nano), sum(written_off_nano)] AS sums
            FROM usage_sealed_hour GROUP BY 1
        ), posted AS (
            SELECT month, sum(amount_nano) AS amount, sum(written_off_nano) AS written_off
            FROM usage_sealed_posting GROUP BY 1
        ), sealed AS (
            SELECT month, ARRAY[requests, prompt_tokens, cached_tokens, completion_tokens,
                                amount_nano, written_off_nano]::numeric[] AS sums
            FROM usage_sealed_month WHERE requests > 0
        )
        SELECT m.month, m.sums, s.sums
        FROM sealed m FULL JOIN summed s USING (month) LEFT JOIN posted p USING (month)
        WHERE m.sums IS DISTINCT FROM s.sums
           OR (coalesce(p.amount, 0), coalesce(p.written_off, 0)) IS DISTINCT FROM (m.sums[5], m.sums[6])
        """,
    ),
    Rule(
        "a day's rollup is the sum of its hours",
        """
        WITH summed AS (
            SELECT tenant_id, (hour AT TIME ZONE 'UTC')::date AS day, listing_id, region,
                   ARRAY[sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
                         sum(amount_nano), sum(written_off_nano)] AS sums
            FROM usage_hour GROUP BY 1, 2, 3, 4
        ), kept AS (
            SELECT tenant_id, day, listing_id, region,
                   ARRAY[requests, prompt_tokens, cached_tokens, completion_tokens,
                         amount_nano, written_off_nano]::numeric[] AS sums
            FROM usage_day
        )
        SELECT tenant_id || ' ' || day, s.sums, k.sums
        FROM summed s FULL JOIN kept k USING (tenant_id, day, listing_id, region)
        WHERE s.sums IS DISTINCT FROM k.sums
        """,
    ),
    Rule(
        "a month's rollup is the sum of its hours",
        """
        WITH summed AS (
            SELECT tenant_id, date_trunc('month', hour, 'UTC') AS month,
                   ARRAY[sum(requests), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
                         sum(amount_nano), sum(written_off_nano)] AS sums
            FROM usage_hour GROUP BY 1, 2
        ), kept AS (
            SELECT tenant_id, month,
                   ARRAY[requests, prompt_tokens, cached_tokens, completion_tokens,
                         amount_nano, written_off_nano]::numeric[] AS sums
            FROM usage_month
        )
        SELECT tenant_id || ' ' || month, s.sums, k.sums
        FROM summed s FULL JOIN kept k USING (tenant_id, month)
        WHERE s.sums IS DISTINCT FROM k.sums
        """,
    ),
    Rule(
        "a key's spending in a month is the sum of its hours",
        """
        WITH summed AS (
            SELECT tenant_id, date_trunc('month', hour, 'UTC') AS month, project_id, key_id, listing_id,
                   sum(amount_nano - written_off_nano) AS paid
            FROM usage_hour GROUP BY 1, 2, 3, 4, 5
        )
        SELECT tenant_id || ' ' || month || ' ' || key_id, s.paid, k.paid_nano
        FROM summed s FULL JOIN usage_spending k USING (tenant_id, month, project_id, key_id, listing_id)
        WHERE s.paid IS DISTINCT FROM k.paid_nano
        """,
    ),
)
