"""Posting to the ledger."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.ledger import queries
from chappe_billing.ledger.postings import Posting
from chappe_kernel.ids import LedgerTransactionId, new_id
from chappe_kernel.money import format_nano
from chappe_store.outbox import Message, enqueue_as


def new_transaction_id() -> LedgerTransactionId:
    return LedgerTransactionId(new_id())


async def post(session: AsyncSession, postings: Sequence[Posting]) -> None:
    """Write transactions, the accounts that they need, and for each a message under its own id. At commit the database
    refuses what does not balance."""
    if not postings:
        return
    accounts = {line.account.id: line.account for posting in postings for line in posting.lines}
    await queries.ensure_accounts(session, list(accounts.values()))
    await queries.insert_postings(session, postings)
    await enqueue_as(session, [Message(posting.id, posting.topic, _announcement(posting)) for posting in postings])


def _announcement(posting: Posting) -> dict[str, Any]:
    return {
        "transaction_id": str(posting.id),
        "kind": posting.kind,
        "tenant_id": None if posting.tenant_id is None else str(posting.tenant_id),
        "legal_entity_id": str(posting.legal_entity_id),
        "amount": format_nano(posting.funds_nano),
        "currency": posting.currency,
        "reference": posting.reference,
        "reverses": None if posting.reverses is None else str(posting.reverses),
        **posting.announced,
    }
