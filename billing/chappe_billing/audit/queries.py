"""What must agree with what, one statement for each rule. Each finds rows (subject, expected, found) that break it.

They are written out in SQL on purpose and share nothing with the code that posts: a mistake there shows up here.
"""

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.audit.books import BOOKS
from chappe_billing.audit.corrections import CONTRACTS, DISCREPANCIES
from chappe_billing.audit.feed import FEED
from chappe_billing.audit.invoices import INVOICES
from chappe_billing.audit.rule import Rule
from chappe_billing.audit.usage import USAGE


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
        "a budget's funds are what was credited to the tenant's accounts, less what it owes by invoices",
        """
        SELECT tenant_id, coalesce(credited, 0), b.funds_nano
        FROM budget b FULL JOIN (
            SELECT a.tenant_id, sum(e.amount_nano) AS credited
            FROM ledger_entry e
            JOIN ledger_account a ON a.id = e.account_id
            JOIN ledger_transaction t ON t.id = e.transaction_id
            WHERE a.kind IN ('tenant_funds', 'receivable') AND t.kind <> 'usage' GROUP BY a.tenant_id
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
            SELECT tenant_id, sum(charged) AS charged FROM (
                SELECT tenant_id, sum(amount_nano - written_off_nano) AS charged FROM usage_event GROUP BY tenant_id
                UNION ALL SELECT tenant_id, amount_nano - written_off_nano FROM usage_sealed_hour
            ) GROUP BY tenant_id
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
            SELECT grant_id, sum(taken) AS taken FROM (
                SELECT grant_id, sum(granted_nano) AS taken FROM usage_event GROUP BY grant_id
                UNION ALL SELECT grant_id, granted_nano FROM usage_sealed_grant
            ) GROUP BY grant_id
        ) u ON u.grant_id = g.id
        WHERE g.posted_nano <> coalesce(taken, 0)
        """,
    ),
)

RULES = (*_LEDGER, *_BUDGETS, *USAGE, *DISCREPANCIES, *CONTRACTS, *FEED, *BOOKS, *INVOICES)


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
