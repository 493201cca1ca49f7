"""What the bodies of all APIs have in common: strict decoding, and refusals that name the parameter."""

import re
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct, UnsetType

from chappe_kernel.errors import Invalid

T = TypeVar("T")

_MAX_STOPS = 4
_MAX_METADATA = 16
_MAX_METADATA_NAME, _MAX_METADATA_VALUE = 64, 512
SEED_RANGE = (-(2**63), 2**63 - 1)
SAMPLING_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "seed": SEED_RANGE,
}


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


def named_model(in_body: str | UnsetType, in_path: str | None) -> str:
    """Raises `Invalid` when neither names one."""
    if in_path is not None:
        return in_path
    if isinstance(in_body, UnsetType):
        raise Invalid("`model` is missing", code="missing_required_parameter", param="model")
    return in_body


def decode_body(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decode without letting the cause through: it may quote the body."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        failure = _explain(str(error), "")
    except msgspec.DecodeError:
        failure = Invalid("the body is not valid JSON", code="invalid_json")
    except UnicodeDecodeError:
        failure = Invalid("the body is not valid UTF-8", code="invalid_json")
    except RecursionError:
        failure = Invalid("the body is nested too deeply", code="invalid_json")
    raise failure from None


_WHERE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_FIELD = re.compile(r"(unknown|missing required) field `([^`]*)`")


def decode_part(value: Any, kind: Any, path: str) -> Any:
    """A part of a body that was decoded loosely, as a `kind`: a type, or several. Raises `Invalid` naming what is wrong
    below `path`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        failure = _explain(str(error), path)
    raise failure from None


def check_type(value: Any, served: tuple[str | None, ...], path: str) -> None:
    """Raises `Invalid` for a part of a type that is not served; whatever else is wrong with it is found later."""
    if isinstance(value, dict) and value.get("type") not in served:
        kinds = " or ".join(f"`{kind}`" for kind in served if kind is not None)
        raise Invalid(f"only the type {kinds} is supported here", code="unsupported_value", param=f"{path}.type")


def _explain(message: str, prefix: str) -> Invalid:
    """msgspec's message, with the parameter's name taken out of it."""
    where = _WHERE.search(message)
    path = ".".join(filter(None, (prefix, where.group(1) if where else ""))).replace(".[", "[").replace("[...]", "")
    what = message[: where.start()] if where else message
    field = _FIELD.search(what)
    if field is None:
        return Invalid(f"{f'`{path}`: ' if path else ''}{what}", code="invalid_type", param=path or None)
    param = f"{path}.{field.group(2)}" if path else field.group(2)
    if field.group(1) == "unknown":
        return Invalid(f"unknown parameter `{param}`", code="unknown_parameter", param=param)
    return Invalid(f"`{param}` is missing", code="missing_required_parameter", param=param)


def check_ranges(body: Struct, ranges: dict[str, tuple[float, float]]) -> None:
    """Raises `Invalid`."""
    for name, (low, high) in ranges.items():
        value = getattr(body, name)
        if value is not None and not low <= value <= high:
            raise Invalid(f"`{name}` must be from {low} to {high}", code="invalid_value", param=name)


@cache
def _reader(names: tuple[str, ...]) -> tuple[Callable[[Any], Any], tuple[None, ...]]:
    """What reads all these fields at once, and what that gives if none is named."""
    # One twice, so that a tuple comes out of a single one too.
    return attrgetter(*names, names[0]), (None,) * (len(names) + 1)


def none_given(body: Struct, names: tuple[str, ...]) -> bool:
    """Whether all these fields are left out, or null."""
    read, nothing = _reader(names)
    return bool(read(body) == nothing)


def refuse_unserved(body: Struct, harmless: dict[str, tuple[Any, ...]], path: str) -> None:
    """Raises `Invalid` for a field with a value that would have to change the answer."""
    # Nearly every request names none of them, and finds that out at once.
    if none_given(body, tuple(harmless)):
        return
    for name, values in harmless.items():
        value = getattr(body, name)
        # The type counts too: to Python `true` equals 1.
        if value is not None and not any(type(value) is type(one) and value == one for one in values):
            refuse(path + name)


def refuse(param: str) -> NoReturn:
    """Raises `Invalid`."""
    raise Invalid(f"`{param}` with this value is not supported", code="unsupported_parameter", param=param)


def check_positive(value: int | None, param: str) -> None:
    """Raises `Invalid`."""
    if value is not None and value < 1:
        raise Invalid(f"`{param}` must be at least 1", code="invalid_value", param=param)


def check_metadata(metadata: dict[str, str] | None) -> None:
    """Raises `Invalid`."""
    if metadata is not None and (
        len(metadata) > _MAX_METADATA
        or any(len(name) > _MAX_METADATA_NAME or len(value) > _MAX_METADATA_VALUE for name, value in metadata.items())
    ):
        raise Invalid(
            f"`metadata` has at most {_MAX_METADATA} entries of {_MAX_METADATA_NAME} and {_MAX_METADATA_VALUE}"
            " characters",
            code="invalid_value",
            param="metadata",
        )


def check_fields(
    fields: dict[str, Any], served: tuple[str, ...], harmless: dict[str, tuple[Any, ...]], path: str
) -> None:
    """Raises `Invalid` for a field that is neither served nor has a value that changes nothing."""
    for name, value in fields.items():
        if name in harmless:
            if value is not None and value not in harmless[name]:
                refuse(f"{path}.{name}")
        elif name not in served:
            raise Invalid(f"unknown parameter `{path}.{name}`", code="unknown_parameter", param=f"{path}.{name}")


def read_include_usage(stream: bool | None, options: StreamOptions | None) -> bool:  # noqa: FBT001  # the field's value
    """Raises `Invalid`."""
    if options is None:
        return False
    if not stream:
        raise Invalid("`stream_options` needs `stream: true`", code="invalid_value", param="stream_options")
    if options.include_obfuscation:
        refuse("stream_options.include_obfuscation")
    return bool(options.include_usage)


def read_stops(stop: str | list[str] | None, param: str = "stop", *, at_most: int = _MAX_STOPS) -> tuple[str, ...]:
    """Raises `Invalid`."""
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    if len(stops) > at_most or not all(stops):
        raise Invalid(f"`{param}` takes up to {at_most} texts, none empty", code="invalid_value", param=param)
    for text in stops:
        check_text(text, param)
    return stops


def check_text(text: str, param: str) -> None:
    """Raises `Invalid`."""
    # Lone surrogates do not come so far: the decoder refuses them.
    if "\x00" in text:
        raise Invalid(f"`{param}` has a NUL character", code="invalid_value", param=param)
