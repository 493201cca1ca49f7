"""Many values as one parameter."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, any_, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute


def is_among(
    column: InstrumentedAttribute[UUID] | InstrumentedAttribute[UUID | None], values: Iterable[UUID]
) -> ColumnElement[bool]:
    """`column = ANY(array)`. Unlike `IN` with a parameter per value it is one prepared statement for any number."""
    return column == any_(bindparam(None, list(values), ARRAY(Uuid())))
