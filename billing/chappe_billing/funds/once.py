"""Posting once for each reference, and the texts that stand beside it."""

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.funds import queries
from chappe_billing.ledger import service as ledger
from chappe_billing.ledger.postings import Line, Posting
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import LedgerTransactionId
from chappe_tenants.naming import clean_name

MAX_REFERENCE_LENGTH = 200
MAX_REASON_LENGTH = 500


class Moved(Struct, frozen=True):
    """The transaction that did it. `repeated`: it had been done before."""

    transaction_id: LedgerTransactionId
    repeated: bool


async def find_repeat(session: AsyncSession, posting: Posting, *, by_funds: bool = False) -> Moved | None:
    """What was posted under this reference before, if it was the same; whoever uses the reference waits from now on
    until the transaction ends. Raises `Conflict` (`reference_taken`) when it stands for something else.

    With `by_funds` it is the same if it did the same to the tenant's funds: what else moved with that depended on the
    moment."""
    reference = posting.reference or ""
    await queries.lock_reference(session, posting.legal_entity_id, reference)
    known = await queries.find_by_reference(session, posting.legal_entity_id, reference)
    if known is None:
        return None
    asked = posting.kind, posting.tenant_id, posting.reverses, posting.lines
    lines = posting.lines if by_funds else await queries.read_lines(session, known.id)
    is_same = (known.kind, known.tenant_id, known.reverses, lines) == asked
    if not is_same or (by_funds and known.funds_nano != posting.funds_nano):
        raise Conflict("this reference stands for something else", code="reference_taken", param="reference")
    return Moved(LedgerTransactionId(known.id), repeated=True)


async def post(session: AsyncSession, posting: Posting) -> Moved:
    """What `find_repeat` did not find, in the same transaction."""
    await ledger.post(session, [posting])
    return Moved(posting.id, repeated=False)


def clean_reference(text: str) -> str:
    return clean_name(text, param="reference", max_length=MAX_REFERENCE_LENGTH)


def clean_reason(text: str, *, param: str = "reason") -> str:
    return clean_name(text, param=param, max_length=MAX_REASON_LENGTH)


def opposite(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    return tuple(Line(line.account, -line.amount_nano) for line in lines)
