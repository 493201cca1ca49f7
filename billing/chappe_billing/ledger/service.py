"""Posting to the ledger."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger import queries
from chappe_billing.ledger.postings import Posting
from chappe_kernel.ids import LedgerTransactionId, new_id


def new_transaction_id() -> LedgerTransactionId:
    return LedgerTransactionId(new_id())


async def post(session: AsyncSession, postings: Sequence[Posting]) -> None:
    """Write transactions, and the accounts that they need. At commit the database refuses what does not balance."""
    if not postings:
        return
    accounts = {line.account.id: line.account for posting in postings for line in posting.lines}
    await queries.ensure_accounts(session, list(accounts.values()))
    await queries.insert_postings(session, postings)
