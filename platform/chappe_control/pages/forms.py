"""Forms: what was typed, what is wrong with it, and how both get back onto the page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from litestar import Request

WHOLE_FORM: Final = "__all__"
_MAX_VALUE_CHARACTERS = 4000


@dataclass(frozen=True)
class Form:
    """Values by field name, and errors in the visitor's language; `__all__` names what no single field is to blame for.

    A password never comes back in `values`: leave it out.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        return self.values.get(name, "")

    def error(self, name: str) -> str | None:
        return self.errors.get(name)

    @property
    def whole_error(self) -> str | None:
        return self.errors.get(WHOLE_FORM)


async def read_fields(request: Request[Any, Any, Any], *names: str) -> dict[str, str]:
    """The named fields of a posted form, each cut to a bound; one that is missing, or is a file, is empty."""
    posted = await request.form()
    values = {name: posted.get(name) for name in names}
    return {name: value[:_MAX_VALUE_CHARACTERS] if isinstance(value, str) else "" for name, value in values.items()}
