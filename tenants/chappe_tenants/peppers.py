"""The operator's peppers: secrets under which keys are digested. Several versions are valid at once."""

import base64
import binascii

from chappe_kernel.api_keys import Pepper
from chappe_kernel.errors import Invalid

MIN_SECRET_BYTES = 32
# Every look-up tries each version, so the number of them is bounded.
MAX_PEPPERS = 8


def parse_peppers(text: str) -> tuple[Pepper, ...]:
    """`1:<base64>,2:<base64>`, ascending by version. Raises `Invalid` without showing any of it."""
    try:
        peppers = sorted((_parse(part) for part in text.split(",")), key=lambda pepper: pepper.version)
    except (ValueError, binascii.Error):
        raise _invalid("it must be like 1:<base64>,2:<base64>") from None
    if len({pepper.version for pepper in peppers}) != len(peppers) or len(peppers) > MAX_PEPPERS:
        raise _invalid(f"it must have at most {MAX_PEPPERS} versions, each once")
    if any(len(pepper.secret) < MIN_SECRET_BYTES for pepper in peppers):
        raise _invalid(f"every secret must have at least {MIN_SECRET_BYTES} bytes")
    return tuple(peppers)


def newest(peppers: tuple[Pepper, ...]) -> Pepper:
    """The one under which new keys are stored."""
    return peppers[-1]


def _parse(part: str) -> Pepper:
    version, _, secret = part.strip().partition(":")
    return Pepper(version=int(version), secret=base64.b64decode(secret, validate=True))


def _invalid(why: str) -> Invalid:
    return Invalid(f"CHAPPE_KEY_PEPPERS is wrong: {why}", code="invalid_setting", param="CHAPPE_KEY_PEPPERS")
