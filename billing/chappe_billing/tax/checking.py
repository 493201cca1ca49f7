"""Asking about tenants' VAT numbers: new ones soon, all again after a while, and those without an answer until there is
one. No transaction is open while somebody is asked."""

from datetime import timedelta

import structlog

from chappe_billing.tax import queries
from chappe_billing.tax.areas import MEMBER_STATES, state_of_number
from chappe_billing.tax.models import VatAnswer
from chappe_billing.tax.queries import Claim
from chappe_billing.tax.vies import Ask, NoAnswer, ViesAnswer
from chappe_kernel.ids import new_id
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database

_log = structlog.get_logger()
_LEASE = timedelta(minutes=2)
_AT_ONCE = 5
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=6)
_DOUBLINGS = 12
_PREFIXES = sorted({"EL", *MEMBER_STATES} - {"GR"})


def wait_after(attempts: int) -> timedelta:
    """How long to wait after so many attempts in vain: a minute, then twice as long each time, six hours at most."""
    doublings: int = min(attempts - 1, _DOUBLINGS)
    return min(_FIRST_WAIT * (1 << doublings), _LONGEST_WAIT)


async def note_new_numbers(database: Database) -> int:
    """Whoever's number nobody has asked about yet is due now, whether anybody is there to ask or not."""
    async with database.operator() as session:
        return await queries.note_numbers(session, _PREFIXES)


async def check_due(database: Database, ask: Ask, *, recheck_days: int) -> int:
    """Ask about what is due; how many answers there were. Safe to kill and to run twice at once: what was claimed and
    not answered is due again after two minutes."""
    answers = 0
    await note_new_numbers(database)
    while True:
        async with database.operator() as session:
            claims = await queries.claim_due(session, lease=_LEASE, limit=_AT_ONCE)
        for claim in claims:
            answers += await _check(database, ask, claim, timedelta(days=recheck_days))
        if len(claims) < _AT_ONCE:
            return answers


async def _check(database: Database, ask: Ask, claim: Claim, recheck_after: timedelta) -> int:
    # VIES takes requesters of member states alone.
    requester = claim.requester if claim.requester and state_of_number(claim.requester) else None
    try:
        answer = await ask(claim.vat_number, requester)
    except NoAnswer as error:
        attempts = claim.attempts + 1
        values = {"attempts": attempts, "last_error": error.code}
        async with database.operator() as session:
            await queries.end_attempt(
                session, claim.tenant_id, claim.vat_number, wait=wait_after(attempts), values=values
            )
        _log.warning("vat_number_not_checked", tenant=str(claim.tenant_id), error=error.code, attempts=attempts)
        return 0
    async with database.operator(command_origin()) as session:
        done = {"attempts": 0, "last_error": None}
        if not await queries.end_attempt(session, claim.tenant_id, claim.vat_number, wait=recheck_after, values=done):
            return 0
        await queries.insert_answer(session, _kept(claim, requester, answer))
    return 1


def _kept(claim: Claim, requester: str | None, answer: ViesAnswer) -> VatAnswer:
    return VatAnswer(
        tenant_id=claim.tenant_id,
        id=new_id(),
        vat_number=claim.vat_number,
        outcome="confirmed" if answer.valid else "invalid",
        source="vies",
        requester=requester,
        consultation_number=answer.consultation_number,
        name=answer.name,
        address=answer.address,
    )
