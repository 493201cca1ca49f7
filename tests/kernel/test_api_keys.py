"""A key's checksum catches every slip, and its digest depends on all of it."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.api_keys import (
    KeyKind,
    Pepper,
    digest_key,
    display_prefix,
    generate_browser_token,
    generate_key,
    generate_operator_token,
    is_browser_token,
    is_operator_token,
    is_well_formed,
    prepare_digest,
)

KINDS = st.sampled_from(KeyKind)
DIGITS = string.digits + string.ascii_letters


@given(KINDS)
def test_generated_keys_are_well_formed(kind: KeyKind) -> None:
    key = generate_key(kind)
    assert is_well_formed(key)
    assert key.startswith(f"ck_{kind.value[0]}")
    assert len(key) == 32


@given(KINDS, st.integers(4, 31), st.sampled_from(DIGITS))
def test_any_one_wrong_digit_is_caught(kind: KeyKind, position: int, digit: str) -> None:
    key = generate_key(kind)
    changed = key[:position] + digit + key[position + 1 :]
    assert is_well_formed(changed) == (changed == key)


@given(KINDS, st.integers(4, 30))
def test_swapped_neighbours_are_caught(kind: KeyKind, position: int) -> None:
    key = generate_key(kind)
    changed = key[:position] + key[position + 1] + key[position] + key[position + 2 :]
    assert is_well_formed(changed) == (changed == key)


@given(st.text())
def test_no_text_crashes_the_check(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_well_formed("ck_i" + text)


def test_the_kind_is_under_the_checksum() -> None:
    key = generate_key(KeyKind.INFERENCE)
    assert not is_well_formed(key.replace("ck_i", "ck_m", 1))
    assert not is_well_formed(key.replace("ck_i", "ck_b", 1))
    assert not is_well_formed(generate_browser_token().replace("ck_b", "ck_i", 1))


def test_a_browser_token_is_well_formed_and_no_kind_of_key() -> None:
    token = generate_browser_token()
    assert is_well_formed(token)
    assert is_browser_token(token)
    assert len(token) == 32
    assert not any(is_browser_token(generate_key(kind)) for kind in KeyKind)
    assert [kind.value for kind in KeyKind] == ["inference", "management"], "what an API may be asked to create"


def test_a_trailing_newline_is_no_part_of_a_key() -> None:
    assert not is_well_formed(generate_key(KeyKind.INFERENCE) + "\n")


def test_keys_do_not_repeat() -> None:
    assert len({generate_key(KeyKind.INFERENCE) for _ in range(10_000)}) == 10_000


def test_keys_that_share_a_prefix_have_unrelated_digests() -> None:
    pepper = Pepper(1, b"pepper")
    key = generate_key(KeyKind.INFERENCE)
    other = key[:-1] + ("0" if key[-1] != "0" else "1")
    assert digest_key(key, pepper) != digest_key(other, pepper)


@pytest.mark.parametrize("secret", [b"one", b"two"])
def test_digest_is_hmac_sha256_under_the_pepper(secret: bytes) -> None:
    key = generate_key(KeyKind.MANAGEMENT)
    digest = digest_key(key, Pepper(1, secret))
    assert len(digest) == 32
    assert digest != digest_key(key, Pepper(1, secret + b"!"))
    assert digest == digest_key(key, Pepper(2, secret))


@given(secret=st.binary(max_size=200), key=st.text(max_size=100))
def test_a_prepared_digest_is_the_same_digest(secret: bytes, key: str) -> None:
    """Also under a pepper that is longer than a block of the hash."""
    pepper = Pepper(1, secret)
    digest = prepare_digest(pepper)
    assert [digest(key.encode()) for _ in range(2)] == [digest_key(key, pepper)] * 2


def test_the_shown_prefix_tells_little() -> None:
    key = generate_key(KeyKind.INFERENCE)
    assert key.startswith(display_prefix(key))
    assert len(display_prefix(key)) == 8


def test_an_operator_token_is_no_key_and_a_key_is_no_operator_token() -> None:
    token = generate_operator_token()
    assert token.startswith("co_") and is_operator_token(token) and not is_well_formed(token)
    assert not is_operator_token(f"{token[:-1]}{'a' if token[-1] != 'a' else 'b'}")
    assert not any(is_operator_token(key) for key in (generate_key(KeyKind.MANAGEMENT), generate_browser_token()))
