"""How long regions may keep what an organisation sends and gets: the choices of its form."""

from collections.abc import Mapping
from typing import Any

from litestar import Request
from msgspec import UNSET, UnsetType

from chappe_control.pages.formats import duration_s
from chappe_control.pages.languages import LOCALES, N_, language_of, translate
from chappe_kernel.errors import Invalid
from chappe_tenants.organisations.models import Tenant

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
_CHOICES_S: Mapping[str, tuple[int, ...]] = {
    "content_kept_for_s": (0, _HOUR_S, _DAY_S, 7 * _DAY_S, 30 * _DAY_S),
    "answers_kept_for_s": (0, 10 * 60, _HOUR_S, _DAY_S),
}
FIELDS = tuple(_CHOICES_S)


def values_of(tenant: Tenant) -> dict[str, str]:
    return {name: str(getattr(tenant, name)) for name in FIELDS}


def options(request: Request[Any, Any, Any], tenant: Tenant) -> dict[str, list[tuple[str, str]]]:
    """By field: seconds and what they are called, with what holds now, though nobody is offered it."""
    locale = LOCALES[language_of(request)]
    nothing = translate(request, N_("Not at all"))
    return {
        name: [
            (str(seconds), duration_s(locale, seconds) if seconds else nothing)
            for seconds in sorted({*choices, getattr(tenant, name)})
        ]
        for name, choices in _CHOICES_S.items()
    }


def posted_s(typed: Mapping[str, str], name: str, present_s: int) -> int | UnsetType:
    """The chosen seconds; unset where the form has no such field. Raises `Invalid` for what was not offered."""
    if not typed[name]:
        return UNSET
    for seconds in (*_CHOICES_S[name], present_s):
        if typed[name] == str(seconds):
            return seconds
    raise Invalid("this was not offered", param=name)
