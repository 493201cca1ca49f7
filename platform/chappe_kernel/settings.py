"""Settings are frozen dataclasses by concern, read from the environment once, at start."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from chappe_kernel.errors import Invalid

T = TypeVar("T")


def load_settings(cls: type[T], environ: Mapping[str, str], prefix: str = "CHAPPE_") -> T:
    """Fill the dataclass `cls` from `PREFIX` + the field's name in capitals.

    Numbers and booleans are converted. Raises `Invalid` naming the variable that is missing or wrong; no
    secret has a default, so a forgotten one stops the start.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # T is always a dataclass here
        variable = prefix + field.name.upper()
        if variable in environ:
            values[field.name] = environ[variable]
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Invalid(f"the environment lacks {variable}", code="missing_setting", param=variable)
    try:
        return msgspec.convert(values, cls, strict=False)
    except msgspec.ValidationError as error:
        # msgspec's message names the field and the type, and never the value: safe to show.
        raise Invalid(f"a setting {prefix}… is wrong: {error}", code="invalid_setting") from None
