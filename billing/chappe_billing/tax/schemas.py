"""How the APIs show and take tax."""

from datetime import date, datetime
from typing import Annotated

from msgspec import Meta, Struct

from chappe_billing.documents.amounts import percent_text
from chappe_billing.tax.deciding import NumberState, Reason
from chappe_billing.tax.models import TaxRuling, VatAnswer, VatCheck, VatRate
from chappe_billing.tax.service import TaxStanding
from chappe_billing.tax.treatment import TaxCategory, TaxTreatment
from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import TENANT, encode_id
from chappe_tenants.organisations.models import Tenant

Percent = Annotated[
    str, Meta(pattern=r"^\d{1,2}(\.\d{1,2})?$", description="Of the net amount, as a decimal: `25.5` is 25.5 %.")
]
Source = Annotated[str, Meta(min_length=1, max_length=200, description="Where that is written: a law, a notice.")]
WhyRuled = Annotated[str, Meta(min_length=1, max_length=500, description="Kept, and shown to the tenant.")]


class TreatmentView(Struct, frozen=True):
    category: Annotated[TaxCategory, Meta(description="`S` is taxed here, `AE` reverse charge, `O` outside the scope.")]
    rate_percent: Percent
    exemption: Annotated[str | None, Meta(description="Why nothing is charged.")]


class VatAnswerView(Struct, frozen=True):
    """What a register said of a number, kept as evidence."""

    vat_number: str
    outcome: Annotated[str, Meta(pattern="^(confirmed|invalid)$")]
    source: Annotated[str, Meta(pattern="^(vies|operator)$")]
    consultation_number: Annotated[str | None, Meta(description="The proof of having asked.")]
    name: Annotated[str | None, Meta(description="As the register has it; some tell none.")]
    address: str | None
    checked_at: datetime


class TaxView(Struct, frozen=True):
    """How purchases of today are taxed, and why."""

    country: str | None
    vat_number: str | None
    number: Annotated[NumberState, Meta(description="What is known of the VAT number.")]
    answer: VatAnswerView | None
    next_check_at: Annotated[datetime | None, Meta(description="When the register is asked next.")]
    treatment: Annotated[TreatmentView | None, Meta(description="None while it cannot be told: see `reason`.")]
    reason: Reason


class VatCheckView(Struct, frozen=True):
    """A number without an answer, or with a no."""

    tenant_id: Annotated[str, Meta(pattern="^ten_")]
    name: str
    vat_number: str
    attempts: Annotated[int, Meta(description="In vain since the last answer.")]
    last_error: str | None
    last_tried_at: datetime | None
    due_at: datetime
    answer: VatAnswerView | None


class VatCheckList(Struct, frozen=True):
    items: list[VatCheckView]


class RecordVatAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody found out by other means than VIES, of the tenant's present number."""

    vat_number: Annotated[str, Meta(min_length=4, max_length=20)]
    outcome: Annotated[str, Meta(pattern="^(confirmed|invalid)$")]
    consultation_number: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a tenant is taxed whatever the rules say; without a category the rules decide again."""

    category: TaxCategory | None
    rate_percent: Percent = "0"
    reason: WhyRuled
    starts_on: Annotated[date | None, Meta(description="Today or later; left out: today.")] = None


class RulingView(Struct, frozen=True):
    category: TaxCategory | None
    rate_percent: Percent
    reason: WhyRuled
    starts_on: date
    created_at: datetime


class ScheduleRate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1.")]
    starts_on: Annotated[date, Meta(description="Tomorrow or later.")]
    rate_percent: Percent
    source: Source


class RateView(Struct, frozen=True):
    """A standard rate, until the country's next one. Of two for one day the later word counts."""

    country: str
    starts_on: date
    rate_percent: Percent
    source: Source
    created_at: datetime


class RateList(Struct, frozen=True):
    items: list[RateView]


OneStopShop = Annotated[
    bool,
    Meta(description="Consumers in other member states pay their own country's rate (the Union's one-stop shop)."),
]


class EntityTaxView(Struct, frozen=True):
    one_stop_shop: OneStopShop


class PutEntityTax(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    one_stop_shop: OneStopShop


def read_percent(text: str) -> int:
    """Basis points. Raises `Invalid`."""
    whole, _, part = text.partition(".")
    try:
        return int(whole) * 100 + int(part.ljust(2, "0") if part else 0)
    except ValueError:
        raise Invalid("a rate is a decimal like 25.5", param="rate_percent") from None


def day_of_rate(text: str) -> date:
    """Out of a path. Raises `NotFound`: no rate begins on what is no day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NotFound("no rate of that country begins that day") from None


def show_treatment(treatment: TaxTreatment) -> TreatmentView:
    return TreatmentView(treatment.category, percent_text(treatment.rate_bp), treatment.exemption_reason)


def show_answer(answer: VatAnswer) -> VatAnswerView:
    return VatAnswerView(
        vat_number=answer.vat_number,
        outcome=answer.outcome,
        source=answer.source,
        consultation_number=answer.consultation_number,
        name=answer.name,
        address=answer.address,
        checked_at=answer.checked_at,
    )


def show_standing(standing: TaxStanding) -> TaxView:
    check, treatment = standing.check, standing.decision.treatment
    is_of_number = check is not None and check.vat_number == standing.tenant.vat_number
    return TaxView(
        country=standing.tenant.country,
        vat_number=standing.tenant.vat_number,
        number=standing.number,
        answer=None if standing.answer is None else show_answer(standing.answer),
        next_check_at=check.due_at if check is not None and is_of_number else None,
        treatment=None if treatment is None else show_treatment(treatment),
        reason=standing.decision.reason,
    )


def show_check(check: VatCheck, tenant: Tenant, answer: VatAnswer | None) -> VatCheckView:
    return VatCheckView(
        tenant_id=encode_id(TENANT, tenant.id),
        name=tenant.legal_name or tenant.name,
        vat_number=check.vat_number,
        attempts=check.attempts,
        last_error=check.last_error,
        last_tried_at=check.last_tried_at,
        due_at=check.due_at,
        answer=None if answer is None else show_answer(answer),
    )


def show_ruling(ruling: TaxRuling) -> RulingView:
    category = None if ruling.category is None else TaxCategory(ruling.category)
    return RulingView(category, percent_text(ruling.rate_bp), ruling.reason, ruling.starts_on, ruling.created_at)


def show_rate(rate: VatRate) -> RateView:
    return RateView(rate.country, rate.starts_on, percent_text(rate.rate_bp), rate.source, rate.created_at)
