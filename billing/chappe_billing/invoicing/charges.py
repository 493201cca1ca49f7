"""What is charged, as lines of an invoice. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

_MILLION = 1_000_000


class Component(StrEnum):
    """What a line is about."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    OUTPUT = "output"
    REQUEST = "request"
    SECOND = "second"
    IMAGE = "image"
    NOT_CHARGED = "not_charged"
    """Usage that neither grant nor funds covered: the operator's loss, taken off again."""
    ARCHIVED = "archived"
    """Usage whose events were dropped before it was invoiced: all that is kept of it is its sum."""
    CORRECTION = "correction"
    VOLUME_DISCOUNT = "volume_discount"
    MINIMUM_FEE = "minimum_fee"
    COMMITMENT_FEE = "commitment_fee"


class Charge(Struct, frozen=True, kw_only=True):
    """`quantity` times `unit_price_nano` over `price_per`, which is whole: what it takes from the tenant's funds. What
    gives something back has a negative quantity. `month` is that of a contract's entry, like 2026-11."""

    component: Component
    quantity: int
    unit_price_nano: int
    price_per: int = 1
    project_id: UUID | None = None
    project: str | None = None
    listing: str | None = None
    region: str | None = None
    month: str | None = None

    @property
    def amount_nano(self) -> int:
        return self.quantity * self.unit_price_nano // self.price_per


class Used(Struct, frozen=True):
    """Sums of chargeable events of a project under one price version, and that version's prices."""

    project_id: UUID
    project: str | None
    listing: str
    region: str
    requests: int
    input: int
    cached_input: int
    output: int
    seconds: int
    images: int
    written_off_nano: int
    input_nano_per_token: int
    cached_input_nano_per_token: int
    output_nano_per_token: int
    request_nano: int
    second_nano: int
    image_nano: int


def charges_of(used: Iterable[Used]) -> list[Charge]:
    """A charge for each component that costs anything, and one that takes off what was written off; those with the
    same price are one, whatever versions it stood in."""
    sums: defaultdict[Charge, int] = defaultdict(int)
    for one in used:
        per_token = (
            (Component.INPUT, one.input, one.input_nano_per_token),
            (Component.CACHED_INPUT, one.cached_input, one.cached_input_nano_per_token),
            (Component.OUTPUT, one.output, one.output_nano_per_token),
        )
        per_piece = (
            (Component.REQUEST, one.requests, one.request_nano),
            (Component.SECOND, one.seconds, one.second_nano),
            (Component.IMAGE, one.images, one.image_nano),
        )
        for component, quantity, nano in per_token:
            sums[_charge(one, component, nano * _MILLION, _MILLION)] += quantity
        for component, quantity, nano in per_piece:
            sums[_charge(one, component, nano)] += quantity
        if one.written_off_nano:
            sums[_charge(one, Component.NOT_CHARGED, one.written_off_nano)] -= 1
    return [
        _times(charge, quantity)
        for charge, quantity in sorted(sums.items(), key=lambda item: _order(item[0]))
        if quantity and charge.unit_price_nano
    ]


def _charge(used: Used, component: Component, unit_price_nano: int, price_per: int = 1) -> Charge:
    return Charge(
        component=component,
        quantity=0,
        unit_price_nano=unit_price_nano,
        price_per=price_per,
        project_id=used.project_id,
        project=used.project,
        listing=used.listing,
        region=used.region,
    )


def _times(charge: Charge, quantity: int) -> Charge:
    return Charge(
        component=charge.component,
        quantity=quantity,
        unit_price_nano=charge.unit_price_nano,
        price_per=charge.price_per,
        project_id=charge.project_id,
        project=charge.project,
        listing=charge.listing,
        region=charge.region,
    )


_ORDER = {component: number for number, component in enumerate(Component)}


def _order(charge: Charge) -> tuple[str, str, str, str, int, int]:
    return (
        charge.project or "",
        str(charge.project_id),
        charge.listing or "",
        charge.region or "",
        _ORDER[charge.component],
        charge.unit_price_nano,
    )


def total_of(charges: Sequence[Charge]) -> int:
    return sum(charge.amount_nano for charge in charges)
