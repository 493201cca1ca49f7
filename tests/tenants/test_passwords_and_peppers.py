"""Passwords are Argon2id; peppers are long, versioned and never shown."""

import base64

import pytest

from chappe_kernel.errors import Invalid
from chappe_tenants.passwords import hash_password, verify_password
from chappe_tenants.peppers import newest, parse_peppers

SECRET = base64.b64encode(b"s" * 32).decode()


def test_password_verifies_only_itself() -> None:
    hashed = hash_password("correct horse battery")
    assert hashed.startswith("$argon2id$")
    assert hash_password("correct horse battery") != hashed
    assert verify_password(hashed, "correct horse battery")
    assert not verify_password(hashed, "correct horse batterx")
    assert not verify_password("damaged", "correct horse battery")


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_password_lengths_are_bounded(password: str) -> None:
    with pytest.raises(Invalid):
        hash_password(password)


def test_newest_pepper_is_the_highest_version() -> None:
    peppers = parse_peppers(f"10:{SECRET}, 2:{SECRET}")
    assert [pepper.version for pepper in peppers] == [2, 10]
    assert newest(peppers).version == 10


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        f"x:{SECRET}",
        "1:c2hvcnQ=",
        "1:%%%",
        f"1:{SECRET},1:{SECRET}",
        ",".join(f"{n}:{SECRET}" for n in range(9)),
    ],
)
def test_wrong_peppers_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_peppers(text)
    assert SECRET not in caught.value.message and "c2hvcnQ" not in caught.value.message
    assert caught.value.__cause__ is None
