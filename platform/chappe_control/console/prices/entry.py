"""What somebody types for a price, a discount or a moment. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct
from msgspec.structs import astuple

from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.prices.service import MAX_COMPONENT_NANO
from chappe_kernel.errors import Invalid
from chappe_kernel.money import format_nano, parse_nano
from chappe_kernel.rating import WHOLE_BASIS_POINTS, Price

TOKENS = ("input", "cached_input", "output")
UNITS = ("per_request", "per_second", "per_image")
AMOUNTS = (*TOKENS, *UNITS)
"""The fields of a price, in the order of its components."""

_MILLION = 1_000_000
_PERCENT = re.compile(r"[0-9]{1,3}(\.[0-9]{1,2})?", re.ASCII)
_LAST_YEAR = 2100


class Terms(Struct, frozen=True):
    """A price, or a discount on the list price in basis points."""

    price: Price | None
    discount_basis_points: int | None


def read_terms(typed: Mapping[str, str], *, of_tenant: bool) -> Terms | dict[str, str]:
    """What was typed; or what is wrong with it, by field, as keys of `texts.PROBLEMS`."""
    if of_tenant and typed["discount"].strip():
        if any(typed[name].strip() for name in AMOUNTS):
            return {"discount": "either"}
        basis_points = basis_points_of(typed["discount"])
        return {"discount": "discount"} if basis_points is None else Terms(None, basis_points)
    problems, components = {}, []
    for name in AMOUNTS:
        found = _component(name, typed[name])
        if isinstance(found, str):
            problems[name] = found
        else:
            components.append(found)
    return problems or Terms(Price(*components), None)


def typed_terms(line: DraftLine | Price | None) -> dict[str, str]:
    """What the form shows of it."""
    if isinstance(line, DraftLine) and line.price is None:
        percent = Decimal(line.discount_basis_points or 0) / 100
        return {"discount": f"{percent.normalize():f}"}
    price = line.price if isinstance(line, DraftLine) else line
    if price is None:
        return {}
    values = zip(AMOUNTS, astuple(price), strict=True)
    return {name: _plain(nano * _MILLION if name in TOKENS else nano) for name, nano in values}


def with_line(lines: Sequence[DraftLine], line: DraftLine) -> list[DraftLine]:
    """In place of what the draft says of the same model in the same region."""
    return [*without_line(lines, line.listing_id, line.region), line]


def without_line(lines: Sequence[DraftLine], listing_id: UUID, region: str) -> list[DraftLine]:
    return [line for line in lines if (line.listing_id, line.region) != (listing_id, region)]


def read_moment(text: str) -> datetime | None:
    """In UTC; None where nothing was typed. Raises `Invalid`."""
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Invalid("not a moment", param="starts_at") from None
    if moment.tzinfo is not None or moment.year > _LAST_YEAR:
        raise Invalid("not a moment", param="starts_at")
    return moment.replace(tzinfo=UTC)


def read_month(text: str, param: str = "month") -> date:
    """Its first day. Raises `Invalid`."""
    try:
        return datetime.strptime(text.strip(), "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise Invalid("not a month", param=param) from None


def read_amount(text: str, param: str) -> int:
    """In nano-units. Raises `Invalid`."""
    try:
        nano = parse_nano(text.strip().replace(",", "."))
    except Invalid:
        raise Invalid("not an amount", param=param) from None
    if nano < 0:
        raise Invalid("an amount is not negative", param=param)
    return nano


def basis_points_of(text: str) -> int | None:
    """Of a percentage; None for what is none."""
    text = text.strip().removesuffix("%").strip().replace(",", ".")
    if not _PERCENT.fullmatch(text):
        return None
    basis_points = int(Decimal(text) * 100)
    return basis_points if basis_points <= WHOLE_BASIS_POINTS else None


def months_until(now: datetime, count: int) -> list[date]:
    """The first days of this month and of those before it."""
    months = now.year * 12 + now.month - 1
    return [date((months - back) // 12, (months - back) % 12 + 1, 1) for back in range(count)]


def _component(name: str, text: str) -> int | str:
    """A component, or the key of its problem. Nothing typed is nothing to pay, but for what a token costs."""
    text = text.strip().replace(",", ".")
    problem = "per_million" if name in TOKENS else "per_unit"
    if not text:
        return problem if name in TOKENS else 0
    try:
        nano = parse_nano(text)
    except Invalid:
        return problem
    if nano < 0:
        return problem
    if name in TOKENS:
        nano_per_token, rest = divmod(nano, _MILLION)
        if rest:
            return problem
        return "invalid_price" if nano_per_token > MAX_COMPONENT_NANO else nano_per_token
    return "invalid_price" if nano > MAX_COMPONENT_NANO else int(nano)


def _plain(nano: int) -> str:
    return format_nano(nano).rstrip("0").rstrip(".")
