"""What a route takes: parameters by name and kind, read from text, and everything else refused as Stripe does."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from chappe_local.stripe_stand_in.errors import invalid

Spec = Callable[[Any, str], Any]
"""Reads one raw value under the parameter's full name. Raises `StripeError`."""

_MOST_METADATA: Final = 50
_LONGEST_METADATA_KEY: Final = 40
_LONGEST_METADATA_VALUE: Final = 500
_LONGEST_TEXT: Final = 5000
_MOST_EXPANSIONS: Final = 20


def text(raw: Any, param: str) -> str | None:
    """Any text; the empty one stands for unset."""
    if not isinstance(raw, str):
        raise invalid(f"Invalid string: {raw}", param=param)
    if len(raw) > _LONGEST_TEXT:
        raise invalid(f"Invalid string: {raw[:10]}…; must be at most {_LONGEST_TEXT} characters", param=param)
    return raw or None


def name(raw: Any, param: str) -> str:
    """Text that may not be empty: ids, for instance."""
    found = text(raw, param)
    if found is None:
        raise invalid(
            f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{param}' cannot be unset.",
            code="parameter_invalid_empty",
            param=param,
        )
    return found


def integer(raw: Any, param: str) -> int:
    digits = raw.removeprefix("-") if isinstance(raw, str) else ""
    if not digits.isascii() or not digits.isdigit() or len(digits) > len(str(2**53)):
        raise invalid(f"Invalid integer: {raw}", code="parameter_invalid_integer", param=param)
    return int(raw)


def amount(raw: Any, param: str) -> int:
    """Whole minor units, more than none."""
    found = integer(raw, param)
    if found <= 0:
        raise invalid("This value must be greater than or equal to 1.", code="parameter_invalid_integer", param=param)
    return found


def flag(raw: Any, param: str) -> bool:
    if raw not in ("true", "false"):
        raise invalid(f"Invalid boolean: {raw}", param=param)
    return bool(raw == "true")


def currency(raw: Any, param: str) -> str:
    found = name(raw, param).lower()
    if len(found) != len("eur") or not found.isalpha():
        raise invalid(f"Invalid currency: {raw}.", param=param)
    return found


def metadata(raw: Any, param: str) -> dict[str, str]:
    """Text by text. The empty text for the whole unsets all: the key `""` stands for that."""
    if raw == "":
        return {"": ""}
    entries = {str(place): value for place, value in enumerate(raw)} if isinstance(raw, list) else raw
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise invalid("Metadata must be a hash of strings.", param=param)
    if len(entries) > _MOST_METADATA:
        raise invalid(f"Metadata may have {_MOST_METADATA} keys at most.", param=param)
    for key, value in entries.items():
        if not 0 < len(key) <= _LONGEST_METADATA_KEY or len(value) > _LONGEST_METADATA_VALUE:
            raise invalid(
                f"Metadata keys can have up to {_LONGEST_METADATA_KEY} characters, values up to "
                f"{_LONGEST_METADATA_VALUE}.",
                param=f"{param}[{key}]",
            )
    return dict(entries)


def texts(raw: Any, param: str) -> dict[str, str]:
    """A free hash of text, such as a meter event's payload."""
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise invalid("Invalid hash", param=param)
    return dict(raw)


def one_of(*allowed: str) -> Spec:
    def read(raw: Any, param: str) -> str:
        if raw not in allowed:
            listed = ", ".join(allowed)
            raise invalid(f"Invalid {param}: must be one of {listed}", param=param)
        return str(raw)

    return read


def items(each: Spec) -> Spec:
    """A list. The empty text is an empty one."""

    def read(raw: Any, param: str) -> list[Any]:
        if raw == "":
            return []
        if not isinstance(raw, list):
            raise invalid("Invalid array", param=param)
        return [each(entry, f"{param}[{place}]") for place, entry in enumerate(raw)]

    return read


def fields(required: tuple[str, ...] = (), /, **known: Spec) -> Spec:
    """A hash with these entries and no others."""

    def read(raw: Any, param: str) -> dict[str, Any] | None:
        if raw == "":
            return None
        if not isinstance(raw, dict):
            raise invalid("Invalid object", param=param)
        return read_all(raw, known, required, param)

    read.known = known  # type: ignore[attr-defined]  # for the test that compares with the SDK
    return read


def created_range(raw: Any, param: str) -> dict[str, int]:
    """A time, or bounds by `gt`, `gte`, `lt`, `lte`; an exact time is both bounds."""
    if isinstance(raw, str):
        moment = integer(raw, param)
        return {"gte": moment, "lte": moment}
    if not isinstance(raw, dict):
        raise invalid("Invalid range", param=param)
    return read_all(raw, {"gt": integer, "gte": integer, "lt": integer, "lte": integer}, (), param)


EXPAND: Final[Mapping[str, Spec]] = {"expand": items(name)}
PAGE: Final[Mapping[str, Spec]] = {"limit": integer, "starting_after": name, "ending_before": name}


def read_all(
    raw: Mapping[str, Any], known: Mapping[str, Spec], required: tuple[str, ...], inside: str = ""
) -> dict[str, Any]:
    """The values by name. Raises `StripeError` for one that is not known, or missing, or of another kind."""
    for given in raw:
        if given not in known:
            full = _full(inside, given)
            raise invalid(f"Received unknown parameter: {full}", code="parameter_unknown", param=full)
    for wanted in required:
        if wanted not in raw:
            full = _full(inside, wanted)
            raise invalid(f"Missing required param: {full}.", code="parameter_missing", param=full)
    read = {given: known[given](value, _full(inside, given)) for given, value in raw.items()}
    if not inside and len(read.get("expand", ())) > _MOST_EXPANSIONS:
        raise invalid("Too many properties to expand.", param="expand")
    return read


def merged_metadata(old: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What an update leaves: an empty value removes its key."""
    if "" in given:
        return {}
    return {key: value for key, value in {**old, **given}.items() if value}


def _full(inside: str, given: str) -> str:
    return f"{inside}[{given}]" if inside else given
