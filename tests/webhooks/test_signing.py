"""Signatures are those of Standard Webhooks, and both secrets sign while one takes the other's place."""

from datetime import UTC, datetime

import pytest

from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.webhooks.signing import headers_of, new_secret, read_secret, show_secret, sign
from chappe_kernel.errors import Unavailable
from chappe_kernel.ids import new_id
from tests.control.world import PEPPERS


def test_the_published_vector_is_met() -> None:
    """Of the reference libraries' own tests."""
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = sign(secret, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_secret_signs_and_what_is_signed_is_all_three() -> None:
    keys, now = (new_secret(), new_secret()), datetime(2026, 11, 23, 5, tzinfo=UTC)
    headers = headers_of(keys, message_id="evt_1", now=now, body=b"{}")
    signatures = headers["webhook-signature"].split(" ")
    stamp = int(now.timestamp())
    assert headers["webhook-timestamp"] == str(stamp)
    assert signatures == [sign(key, message_id="evt_1", timestamp=stamp, body=b"{}") for key in keys]
    others = [("evt_2", stamp, b"{}"), ("evt_1", stamp + 1, b"{}"), ("evt_1", stamp, b"{ }")]
    assert not {sign(keys[0], message_id=i, timestamp=t, body=b) for i, t, b in others} & set(signatures)


def test_a_sealed_secret_opens_for_its_own_endpoint_alone() -> None:
    seal, endpoint, secret = SecretSeal(PEPPERS), new_id(), new_secret()
    sealed = seal.close(secret, endpoint)
    assert secret not in sealed
    assert SecretSeal(PEPPERS).open(sealed, endpoint) == secret
    assert SecretSeal(PEPPERS[:1]).open(SecretSeal(PEPPERS[:1]).close(secret, endpoint), endpoint) == secret
    with pytest.raises(Unavailable):
        seal.open(sealed, new_id())
    with pytest.raises(Unavailable):
        SecretSeal(PEPPERS[:1]).open(sealed, endpoint)
    assert read_secret(show_secret(secret)) == secret
