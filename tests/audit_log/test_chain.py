"""The encoding under the hash: two different entries are never written alike, and the database writes the same."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import Text

from chappe_store.audit_log.chain import encode

# PostgreSQL's text has no NUL and no lone surrogates.
fields = st.lists(
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=6
)


@given(one=fields, other=fields)
def test_different_fields_are_written_differently(one: list[str | None], other: list[str | None]) -> None:
    assert (encode(*one) == encode(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [((None,), ("~",)), (("a", "b"), ("ab",)), (("1:a",), ("a",)), (("", None), (None, ""))]
)
def test_fields_that_look_alike_are_written_differently(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    assert encode(*one) != encode(*other)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listed=fields)
async def test_the_database_writes_the_same(tampering: AsyncSession, listed: list[str | None]) -> None:
    statement = text("SELECT audit_encoding(VARIADIC :fields)").bindparams(bindparam("fields", type_=ARRAY(Text)))
    assert await tampering.scalar(statement, {"fields": listed}) == encode(*listed)
