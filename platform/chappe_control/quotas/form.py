"""The form of a quota: from what was typed to values, and back."""

from chappe_control.pages.forms import Form
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import KEY, PROJECT, KeyId, ProjectId, decode_id
from chappe_kernel.money import format_nano, parse_nano
from chappe_tenants.quotas import service
from chappe_tenants.quotas.effective import Level, Rule
from chappe_tenants.quotas.queries import Subject, Values
from chappe_tenants.quotas.schemas import MAX_ALERT_PERCENT, MAX_ALERTS, MAX_BUDGET_NANO, MAX_RATE

ORGANISATION = "organisation"
"""What the form sends for the whole organisation, beside ids of projects and keys."""

FIELDS = (
    *("subject", "model", "requests_per_minute", "tokens_per_minute", "monthly_budget", "hard_stop", "alert_percents"),
)


def read_subject(text: str) -> Subject:
    """Raises `Invalid` naming the field."""
    try:
        if text.startswith(f"{KEY}_"):
            return Subject(Level.KEY, key_id=KeyId(decode_id(KEY, text)))
        if text == ORGANISATION:
            return service.OF_TENANT
        return Subject(Level.PROJECT, project_id=ProjectId(decode_id(PROJECT, text)))
    except Invalid:
        raise Invalid("there is no such project or key", param="subject") from None


def read_values(posted: dict[str, str]) -> Values:
    """Raises `Invalid` naming the field. A box that is not ticked is not sent at all."""
    budget_nano = _budget_nano(posted["monthly_budget"])
    return Values(
        requests_per_minute=_rate(posted, "requests_per_minute"),
        tokens_per_minute=_rate(posted, "tokens_per_minute"),
        monthly_budget_nano=budget_nano,
        hard_stop=posted["hard_stop"] == "on",
        # What is suggested stands in the form even where nobody wants a budget.
        alert_percents=() if budget_nano is None else _percents(posted["alert_percents"]),
    )


def filled(rule: Rule) -> Form:
    """The form as it stands for this rule."""
    budget_nano = rule.monthly_budget_nano
    return Form(
        {
            "requests_per_minute": _shown(rule.requests_per_minute),
            "tokens_per_minute": _shown(rule.tokens_per_minute),
            "monthly_budget": "" if budget_nano is None else format_nano(budget_nano).rstrip("0").rstrip("."),
            "hard_stop": "on" if rule.hard_stop else "",
            "alert_percents": ", ".join(str(percent) for percent in rule.alert_percents),
        }
    )


def _shown(value: int | None) -> str:
    return "" if value is None else str(value)


def _rate(posted: dict[str, str], field: str) -> int | None:
    text = "".join(posted[field].split())
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_RATE)) or not 1 <= int(text) <= MAX_RATE:
        raise Invalid("not a whole number in range", param=field)
    return int(text)


def _budget_nano(text: str) -> int | None:
    """With a decimal point or a decimal comma."""
    typed = "".join(text.split()).replace(",", ".")
    if not typed:
        return None
    try:
        amount_nano = parse_nano(typed)
    except Invalid:
        raise Invalid("not an amount", param="monthly_budget") from None
    if not 0 <= amount_nano <= MAX_BUDGET_NANO:
        raise Invalid("not an amount in range", param="monthly_budget")
    return amount_nano


def _percents(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.replace("%", "").split(",") if part.strip()]
    if len(parts) > MAX_ALERTS or not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts):  # noqa: PLR2004 -- digits of the highest
        raise Invalid("not a list of percents", param="alert_percents")
    percents = tuple(int(part) for part in parts)
    if not all(1 <= percent <= MAX_ALERT_PERCENT for percent in percents):
        raise Invalid("not a list of percents", param="alert_percents")
    return percents
