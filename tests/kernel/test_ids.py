"""Readable ids are one-to-one with UUIDs and sort as they do."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.errors import Invalid
from chappe_kernel.ids import KEY, TENANT, decode_id, encode_id, new_id

UUIDS = st.uuids()


@given(UUIDS)
def test_decode_inverts_encode(value: UUID) -> None:
    assert decode_id(TENANT, encode_id(TENANT, value)) == value


@given(UUIDS, UUIDS)
def test_text_sorts_like_the_uuid(first: UUID, second: UUID) -> None:
    assert (encode_id(KEY, first) < encode_id(KEY, second)) == (first < second)


@given(st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyz", min_size=26, max_size=26))
def test_what_decodes_is_canonical(digits: str) -> None:
    text = f"{KEY}_{digits}"
    try:
        value = decode_id(KEY, text)
    except Invalid:
        assert digits[0] > "7"
    else:
        assert encode_id(KEY, value) == text


@given(st.text())
def test_no_text_crashes_the_decoder(text: str) -> None:
    try:
        value = decode_id(KEY, text)
    except Invalid as error:
        assert error.code == "invalid_id"
    else:
        assert encode_id(KEY, value) == text


def test_known_vector_of_the_encoding() -> None:
    # From the TypeID specification, version 0.3.
    value = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    assert encode_id("prefix", value) == "prefix_01h455vb4pex5vsknk084sn02q"


def test_another_nouns_prefix_is_refused() -> None:
    with pytest.raises(Invalid):
        decode_id(KEY, encode_id(TENANT, new_id()))


def test_upper_case_and_look_alikes_are_refused() -> None:
    text = encode_id(KEY, new_id())
    for other in (text.upper(), text[:-1] + "l", text[:-1] + "o", text + "0", text[:-1]):
        with pytest.raises(Invalid):
            decode_id(KEY, other)


def test_new_ids_are_version_7_and_ascend() -> None:
    made = [new_id() for _ in range(1000)]
    assert {value.version for value in made} == {7}
    assert made == sorted(set(made))
