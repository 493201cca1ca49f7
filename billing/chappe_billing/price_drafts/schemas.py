"""Price drafts as the API shows them and takes them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from chappe_billing.price_drafts.comparing import Difference
from chappe_billing.price_drafts.service import MAX_LINES, Draft
from chappe_billing.price_simulations.reckoning import Sums
from chappe_billing.price_simulations.service import Simulation
from chappe_billing.prices.schemas import BasisPoints, PriceTerms, show_price
from chappe_kernel.ids import PRICE_DRAFT, PRICE_VERSION, TENANT, encode_id
from chappe_kernel.money import format_nano

MAX_TITLE_LENGTH = 100
MAX_TENANTS_SHOWN = 100

Title = Annotated[str, Meta(min_length=1, max_length=MAX_TITLE_LENGTH)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
SignedAmount = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{9}$", description="A decimal string.")]
Moment = Annotated[datetime, Meta(tz=True)]
Month = Annotated[str, Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A month of UTC, `YYYY-MM`.")]


class LineTerms(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model will cost in a region: either a price, or in a tenant's draft a discount on the list price."""

    model: Name
    region: Name
    price: PriceTerms | None = None
    discount_basis_points: BasisPoints | None = None


class WriteDraft(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    title: Title
    lines: Annotated[list[LineTerms], Meta(max_length=MAX_LINES)] = []


class CreateDraft(WriteDraft, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tenant_id: Annotated[Name | None, Meta(description="Whose own prices; null is everybody's.")] = None


class SimulateDraft(Struct, frozen=True, forbid_unknown_fields=True):
    month: Annotated[Month | None, Meta(description="The last whole one unless it is given.")] = None


class PublishDraft(Struct, frozen=True, forbid_unknown_fields=True):
    starts_at: Annotated[
        Moment | None, Meta(description="As soon as every gateway knows of it, unless it is given.")
    ] = None


class LineView(Struct, frozen=True, kw_only=True):
    model: str
    region: str
    currency: str
    price: PriceTerms | None
    discount_basis_points: BasisPoints | None


class DraftView(Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(pattern="^prd_")]
    title: str
    tenant_id: str | None
    lines: list[LineView]
    created_at: datetime
    simulated: Annotated[
        bool, Meta(description="Whether it was reckoned with usage as it is: then it can be published.")
    ]
    published_at: datetime | None
    discarded_at: datetime | None


class ChangeView(Struct, frozen=True):
    """One component, per token or unit."""

    component: str
    before: SignedAmount | None
    after: SignedAmount


class DifferenceView(Struct, frozen=True, kw_only=True):
    model: str
    region: str
    currency: str
    price: PriceTerms
    in_force: Annotated[str | None, Meta(description="The version that it would follow; null: nothing is sold there.")]
    in_force_since: datetime | None
    changes: list[ChangeView]


class DraftDifferences(Struct, frozen=True):
    items: list[DifferenceView]


class CostView(Struct, frozen=True, kw_only=True):
    requests: Annotated[int, Meta(description="Those that cost anything.")]
    charged: SignedAmount
    would_have_cost: SignedAmount
    difference: SignedAmount


class PlaceCostView(CostView, frozen=True, kw_only=True):
    model: str
    region: str


class TenantCostView(CostView, frozen=True, kw_only=True):
    tenant_id: str


class SimulationView(Struct, frozen=True, kw_only=True):
    """A month's usage as it was charged, and as it would have been under the draft. `tenants` are those for whom most
    changes, a hundred at most."""

    month: Month
    currency: str | None
    total: CostView
    places: list[PlaceCostView]
    tenants: list[TenantCostView]


class PublishedDraft(Struct, frozen=True):
    """Which versions its lines became, in their order."""

    price_versions: list[str]


def show_draft(draft: Draft) -> DraftView:
    return DraftView(
        id=encode_id(PRICE_DRAFT, draft.row.id),
        title=draft.row.title,
        tenant_id=None if draft.row.tenant_id is None else encode_id(TENANT, draft.row.tenant_id),
        lines=[
            LineView(
                model=line.listing,
                region=line.region,
                currency=line.currency,
                price=None if line.price is None else show_price(line.price),
                discount_basis_points=line.discount_basis_points,
            )
            for line in draft.lines
        ],
        created_at=draft.row.created_at,
        simulated=draft.is_simulated,
        published_at=draft.row.published_at,
        discarded_at=draft.row.discarded_at,
    )


def show_differences(found: Sequence[Difference]) -> DraftDifferences:
    return DraftDifferences([_difference(one) for one in found])


def show_simulation(draft: Draft, found: Simulation) -> SimulationView:
    names = {(line.listing_id, line.region): line for line in draft.lines}
    by_change = sorted(found.reckoned.tenants.items(), key=lambda item: -abs(item[1].after_nano - item[1].before_nano))
    return SimulationView(
        month=found.month.strftime("%Y-%m"),
        currency=draft.lines[0].currency if draft.lines else None,
        total=CostView(**_cost(found.reckoned.total)),
        places=[
            PlaceCostView(model=line.listing, region=line.region, **_cost(found.reckoned.places.get(place, Sums())))
            for place, line in names.items()
        ],
        tenants=[
            TenantCostView(tenant_id=encode_id(TENANT, tenant_id), **_cost(sums))
            for tenant_id, sums in by_change[:MAX_TENANTS_SHOWN]
        ],
    )


def _difference(found: Difference) -> DifferenceView:
    return DifferenceView(
        model=found.line.listing,
        region=found.line.region,
        currency=found.line.currency,
        price=show_price(found.price),
        in_force=None if found.version_id is None else encode_id(PRICE_VERSION, found.version_id),
        in_force_since=found.starts_at,
        changes=[
            ChangeView(
                change.component,
                None if change.before_nano is None else format_nano(change.before_nano),
                format_nano(change.after_nano),
            )
            for change in found.changes
        ],
    )


def _cost(sums: Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "charged": format_nano(sums.before_nano),
        "would_have_cost": format_nano(sums.after_nano),
        "difference": format_nano(sums.after_nano - sums.before_nano),
    }
