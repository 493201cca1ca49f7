"""Reckoning a draft with a month's usage, before it is published."""

from datetime import date

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.price_drafts import queries as drafts
from chappe_billing.price_drafts.service import Draft, list_price_of
from chappe_billing.price_simulations import queries
from chappe_billing.price_simulations.reckoning import Reckoned, reckon
from chappe_billing.prices import queries as prices
from chappe_billing.prices.queries import PriceList
from chappe_store.queries import read_now


class Simulation(Struct, frozen=True):
    """What the month's usage was charged with, and would have been."""

    month: date
    reckoned: Reckoned


async def simulate(session: AsyncSession, draft: Draft, month: date | None = None) -> Simulation:
    """Reckon the draft with what was posted in `month` (its first day), else in the last whole one.

    A discount is taken from the list price of now. Raises `Invalid` for one without a list price.
    """
    month = month or await queries.last_month(session)
    now = await read_now(session)
    wanted = {}
    for line in draft.lines:
        published = await prices.versions_of(session, line.listing_id, line.region)
        listed = published[PriceList(line.listing_id, line.region)]
        wanted[line.listing_id, line.region] = list_price_of(line, listed, now)
    used = await queries.sum_month(session, month, {line.listing_id for line in draft.lines}, draft.row.tenant_id)
    of_draft = [one for one in used if (one.listing_id, one.region) in wanted]
    return Simulation(month, reckon(of_draft, wanted, draft.row.tenant_id))


async def simulate_for_publication(session: AsyncSession, draft: Draft, month: date | None = None) -> Simulation:
    """The same, and note that the draft was simulated as it is: now it can be published. As the operator, who has
    locked it."""
    found = await simulate(session, draft, month)
    if draft.is_open:
        await drafts.update_draft(session, draft.row.id, {"simulated_lines": draft.lines_digest})
    return found
