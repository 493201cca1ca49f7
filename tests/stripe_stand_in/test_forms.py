"""Forms are read as Stripe reads them, and what is no form is refused without a crash."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe._encode import _api_encode

from chappe_local.stripe_stand_in.errors import StripeError
from chappe_local.stripe_stand_in.forms import decode

NAMES = st.text("abcdefghij_", min_size=1, max_size=6)
VALUES = st.recursive(
    st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=6,
)


def encoded(values: dict[str, Any]) -> bytes:
    return urlencode(list(_api_encode(values))).encode()


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4))
def test_what_the_sdk_encodes_is_read_back(values: dict[str, Any]) -> None:
    assert decode(encoded(values)) == values


@given(st.binary(max_size=60))
def test_anything_is_read_or_refused(body: bytes) -> None:
    try:
        decode(body)
    except StripeError as error:
        assert error.status == 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a[]=1&a[]=2", {"a": ["1", "2"]}),
        (b"a[1]=y&a[0]=x", {"a": ["x", "y"]}),
        (b"a[b][c]=1&a[b][d]=", {"a": {"b": {"c": "1", "d": ""}}}),
        (b"metadata[k%5B]=1", None),
        (b"a=1&a[b]=2", None),
        (b"a[b=2", None),
        (b"", {}),
    ],
)
def test_nested_names(body: bytes, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(StripeError):
            decode(body)
    else:
        assert decode(body) == expected
