"""What must agree with what, one statement for each rule. Each finds rows (subject, expected, found) that break it.

They are written out in SQL on purpose and share nothing with the code that posts: a mistake there shows up here.
"""

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Rule(Struct, frozen=True):
    """`statement` selects the rows that break what `name` says."""

    name: str
    statement: str


class Difference(Struct, frozen=True):
    """The first row found to break a rule."""

    rule: str
    subject: str
    expected: str
    found: str


class Totals(Struct, frozen=True):
    """How much was verified."""

    transactions: int
    events: int
    quarantined: int


_LEDGER = (
    Rule(
        "the entries of a transaction sum to zero",
        """
        SELECT t.id, 0, coalesce(sum(e.amount_nano), 0)
        FROM ledger_transaction t LEFT JOIN ledger_entry e ON e.transaction_id = t.id
        GROUP BY t.id HAVING count(e.line) < 2 OR sum(e.amount_nano) <> 0
        """,
    ),
    Rule(
        "an entry belongs to a transaction and to its account's tenant",
        """
        SELECT e.transaction_id || ' line ' || e.line, a.tenant_id, e.tenant_id
        FROM ledger_entry e
        LEFT JOIN ledger_transaction t ON t.id = e.transaction_id AND t.currency = e.currency
        LEFT JOIN ledger_account a ON a.id = e.account_id AND a.currency = e.currency
        WHERE t.id IS NULL OR a.id IS NULL OR e.tenant_id IS DISTINCT FROM a.tenant_id
           OR (a.tenant_id IS NOT NULL AND a.tenant_id IS DISTINCT FROM t.tenant_id)
        """,
    ),
)

_BUDGETS = (
    Rule(
        "a budget's funds are what was credited to the tenant's account",
        """
        SELECT tenant_id, coalesce(credited, 0), b.funds_nano
        FROM budget b FULL JOIN (
            SELECT a.tenant_id, sum(e.amount_nano) AS credited
            FROM ledger_entry e
            JOIN ledger_account a ON a.id = e.account_id
            JOIN ledger_transaction t ON t.id = e.transaction_id
            WHERE a.kind = 'tenant_funds' AND t.kind <> 'usage' GROUP BY a.tenant_id
        ) l USING (tenant_id)
        WHERE b.funds_nano IS DISTINCT FROM coalesce(credited, 0)
        """,
    ),
    Rule(
        "a budget's posted usage is what was debited from the tenant's account",
        """
        SELECT tenant_id, coalesce(debited, 0), b.posted_nano
        FROM budget b FULL JOIN (
            SELECT a.tenant_id, -sum(e.amount_nano) AS debited
            FROM ledger_entry e
            JOIN ledger_account a ON a.id = e.account_id
            JOIN ledger_transaction t ON t.id = e.transaction_id
            WHERE a.kind = 'tenant_funds' AND t.kind = 'usage' GROUP BY a.tenant_id
        ) l USING (tenant_id)
        WHERE b.posted_nano IS DISTINCT FROM coalesce(debited, 0)
        """,
    ),
    Rule(
        "a budget's posted usage is the sum of its events",
        """
        SELECT tenant_id, coalesce(charged, 0), b.posted_nano
        FROM budget b FULL JOIN (
            SELECT tenant_id, sum(amount_nano - written_off_nano) AS charged FROM usage_event GROUP BY tenant_id
        ) u USING (tenant_id)
        WHERE b.posted_nano IS DISTINCT FROM coalesce(charged, 0)
        """,
    ),
    Rule(
        "a budget's pending money is what its open grants could still spend",
        """
        SELECT tenant_id, coalesce(open, 0), b.pending_nano
        FROM budget b FULL JOIN (
            SELECT tenant_id, sum(amount_nano - returned_nano - posted_nano) AS open
            FROM budget_grant WHERE released_at IS NULL GROUP BY tenant_id
        ) g USING (tenant_id)
        WHERE b.pending_nano IS DISTINCT FROM coalesce(open, 0)
        """,
    ),
    Rule(
        "what a grant has posted is the sum of what its events took from it",
        """
        SELECT g.id, coalesce(taken, 0), g.posted_nano
        FROM budget_grant g LEFT JOIN (
            SELECT grant_id, sum(granted_nano) AS taken FROM usage_event GROUP BY grant_id
        ) u ON u.grant_id = g.id
        WHERE g.posted_nano <> coalesce(taken, 0)
        """,
    ),
)

_USAGE = (
    Rule(
        "an event costs what its price version says",
        """
        SELECT request_id, rated, amount_nano
        FROM usage_event u
        LEFT JOIN price_version p
            ON p.id = u.price_version_id AND p.listing_id = u.listing_id AND p.region = u.region,
        LATERAL (SELECT CASE
            WHEN prompt_tokens = 0 AND completion_tokens = 0 THEN 0
            WHEN outcome = 'failed' AND completion_tokens = 0 THEN 0
            ELSE (prompt_tokens - cached_tokens)::numeric * p.input_nano_per_token
               + cached_tokens::numeric * p.cached_input_nano_per_token
               + completion_tokens::numeric * p.output_nano_per_token
               + p.request_nano
            END AS rated) r
        WHERE p.id IS NULL OR rated <> amount_nano
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
            SELECT transaction_id, region, sum(amount_nano) AS amount, sum(written_off_nano) AS written_off
            FROM usage_event WHERE transaction_id IS NOT NULL GROUP BY transaction_id, region
        ), wanted AS (
            SELECT transaction_id, 'revenue' AS kind, region, amount FROM used
            UNION ALL SELECT transaction_id, 'tenant_funds', NULL, sum(written_off - amount) FROM used GROUP BY 1
            UNION ALL SELECT transaction_id, 'write_off', NULL, -sum(written_off) FROM used GROUP BY 1
        )
        SELECT coalesce(p.transaction_id, w.transaction_id) || ' ' || coalesce(p.kind, w.kind), w.amount, p.amount
        FROM posted p FULL JOIN (SELECT * FROM wanted WHERE amount <> 0) w
            ON w.transaction_id = p.transaction_id AND w.kind = p.kind
            AND coalesce(w.region, '') = coalesce(p.region, '')
        WHERE p.amount IS DISTINCT FROM w.amount
        """,
    ),
    Rule(
        "an hour's rollup is the sum of the events posted in it",
        """
        WITH summed AS (
            SELECT tenant_id, date_trunc('hour', posted_at) AS hour, project_id, key_id, listing_id, region,
                   ARRAY[count(*), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
                         sum(amount_nano), sum(written_off_nano)] AS sums
            FROM usage_event GROUP BY 1, 2, 3, 4, 5, 6
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

RULES = (*_LEDGER, *_BUDGETS, *_USAGE)


async def find_difference(session: AsyncSession, rule: Rule) -> Difference | None:
    row = (await session.execute(text(f"{rule.statement} LIMIT 1"))).one_or_none()
    if row is None:
        return None
    subject, expected, found = row
    return Difference(rule.name, str(subject), str(expected), str(found))


async def count_totals(session: AsyncSession) -> Totals:
    statement = text(
        "SELECT (SELECT count(*) FROM ledger_transaction), (SELECT count(*) FROM usage_event), "
        "(SELECT count(*) FROM usage_quarantine)"
    )
    return Totals(*(await session.execute(statement)).one())
