"""What waits in the database tells its reader nothing."""

import base64

import pytest

from chappe_control.mail.orders import Order, Seal, Unreadable
from chappe_kernel.api_keys import Pepper

OLD, NEW = Pepper(1, b"a" * 32), Pepper(2, b"b" * 32)
ORDER = Order("password_reset", "mia@example.eu", "fr", {"reset_url": "https://portal.example/?link=s3cret"})


def test_whoever_has_the_peppers_reads_it_and_nobody_else() -> None:
    payload = Seal((OLD,)).close(ORDER)
    assert Seal((OLD,)).open(payload) == ORDER
    assert set(payload) == {"pepper_version", "sealed"}
    raw = base64.b64decode(payload["sealed"])
    for readable in (b"mia", b"example", b"link", b"password"):
        assert readable not in raw


def test_the_same_order_is_never_sealed_alike() -> None:
    seal = Seal((OLD,))
    assert seal.close(ORDER)["sealed"] != seal.close(ORDER)["sealed"]


def test_rotating_the_pepper_loses_no_letter() -> None:
    payload = Seal((OLD,)).close(ORDER)
    rotated = Seal((OLD, NEW))
    assert rotated.open(payload) == ORDER
    assert rotated.close(ORDER)["pepper_version"] == 2


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"pepper_version": 1},
        {"pepper_version": 1, "sealed": 7},
        {"pepper_version": 1, "sealed": ""},
        {"pepper_version": 1, "sealed": "not base64!"},
        {"pepper_version": "1", "sealed": "AAAA"},
        {"pepper_version": 1, "sealed": base64.b64encode(b"x" * 60).decode()},
    ],
)
def test_what_we_did_not_seal_is_unreadable(payload: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        Seal((OLD,)).open(payload)


@pytest.mark.parametrize("place", [0, 20, -1])
def test_one_changed_byte_is_noticed(place: int) -> None:
    payload = Seal((OLD,)).close(ORDER)
    raw = bytearray(base64.b64decode(payload["sealed"]))
    raw[place] ^= 1
    with pytest.raises(Unreadable):
        Seal((OLD,)).open({**payload, "sealed": base64.b64encode(raw).decode()})


def test_another_pepper_of_the_same_version_opens_nothing() -> None:
    with pytest.raises(Unreadable):
        Seal((Pepper(1, b"c" * 32),)).open(Seal((OLD,)).close(ORDER))
