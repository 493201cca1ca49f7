"""Cursors of lists that are sorted by id, newest first: opaque, and stable while new items arrive at the front."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from chappe_kernel.errors import Invalid

T = TypeVar("T")

_VERSION = b"\x01"
_UUID_BYTES = 16


def encode_cursor(last: UUID) -> str:
    """After the item with this id."""
    return base64.urlsafe_b64encode(_VERSION + last.bytes).decode().rstrip("=")


def decode_cursor(text: str | None) -> UUID | None:
    """The inverse; None stays None. Raises `Invalid` for everything that `encode_cursor` did not make."""
    if text is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise _bad_cursor() from None
    if len(raw) != 1 + _UUID_BYTES or raw[:1] != _VERSION:
        raise _bad_cursor()
    last = UUID(bytes=raw[1:])
    if encode_cursor(last) != text:
        raise _bad_cursor()
    return last


def cut_page(rows: Sequence[T], limit: int, id_of: Callable[[T], UUID]) -> tuple[Sequence[T], str | None]:
    """The page out of up to `limit` + 1 rows, and the cursor of the next one, if there is more."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode_cursor(id_of(rows[limit - 1]))


def _bad_cursor() -> Invalid:
    return Invalid("the cursor is not one of ours", code="invalid_cursor", param="cursor")
