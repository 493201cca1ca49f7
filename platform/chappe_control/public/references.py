"""Ids as they stand in paths and bodies."""

from typing import Annotated
from uuid import UUID

from litestar.params import PathParameter

from chappe_kernel.errors import Invalid, NotFound
from chappe_kernel.ids import decode_id

MAX_ID_LENGTH = 100

KeyPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The key's id, `key_…`.")]
ProjectPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The project's id, `prj_…`.")]
ServiceAccountPath = Annotated[
    str, PathParameter(max_length=MAX_ID_LENGTH, description="The service account's id, `sva_…`.")
]


def id_in_path(prefix: str, text: str, noun: str) -> UUID:
    """Raises `NotFound`: what is no id is nobody's."""
    try:
        return decode_id(prefix, text)
    except Invalid:
        raise NotFound(f"no such {noun}") from None


def id_in_body(prefix: str, text: str, param: str) -> UUID:
    """Raises `Invalid` naming the field."""
    try:
        return decode_id(prefix, text)
    except Invalid as error:
        raise Invalid(error.message, code=error.code, param=param) from None
