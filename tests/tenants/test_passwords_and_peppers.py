"""Passwords are Argon2id; peppers are long, versioned and never shown."""

import asyncio
import base64
import threading

import pytest

from chappe_kernel.errors import Invalid, Unavailable
from chappe_tenants import passwords
from chappe_tenants.passwords import PasswordWork, check_password, hash_password, verify_password
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


@pytest.mark.parametrize(
    "password",
    [
        "tidal lantern mosaic 42",
        "correct horse battery staple",
        "xK9#mQ2$vL7!",
        "éàüßçøñ éàüßçøñ",
        "пароль из нескольких слов",
        "mia walks her dog at dawn",
    ],
)
def test_long_and_varied_is_strong(password: str) -> None:
    check_password(password, ["mia@example.eu", "mia", "example.eu"])


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("x" * 11, "password_too_short"),
        ("tidal lantern " * 20, "password_too_long"),
        ("tidal\0lantern mosaic", "password_unreadable"),
        ("tidal\nlantern mosaic", "password_unreadable"),
        ("tidal \ud800 lantern mosaic", "password_unreadable"),
        ("aaaaaaaaaaaa", "password_guessable"),
        ("abababababab", "password_guessable"),
        ("123456789012", "password_guessable"),
        ("abcdefghijklm", "password_guessable"),
        ("zyxwvutsrqpo", "password_guessable"),
        ("Password1234", "password_guessable"),
        ("PASSWORDPASSWORD", "password_guessable"),
        ("qwertyqwerty12", "password_guessable"),
        ("motdepasse123", "password_guessable"),
        ("mia.tanaka@example.eu", "password_guessable"),
        ("Mia.Tanaka2026", "password_guessable"),
    ],
)
def test_what_an_attacker_tries_first_is_refused_and_not_shown(password: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_password(password, ["mia.tanaka@example.eu", "mia.tanaka", "example.eu", "Acme"])
    assert caught.value.code == code
    assert not password or password not in caught.value.message


def test_a_password_beyond_the_bound_fits_nothing() -> None:
    longest = "ab c" * 64
    hashed = hash_password(longest)
    assert verify_password(hashed, longest)
    assert not verify_password(hashed, longest + "x")


async def test_work_beyond_the_bound_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was refused or given up leaves room for others."""
    may_end = threading.Event()
    running = []

    def slow(_hash: str, _password: str) -> bool:
        running.append(1)
        return may_end.wait(20)

    monkeypatch.setattr(passwords, "verify_password", slow)
    work = PasswordWork()
    waiting = [asyncio.create_task(work.verify("hash", "p")) for _ in range(passwords._WAITING)]
    await asyncio.sleep(0.05)
    with pytest.raises(Unavailable):
        await work.verify("hash", "p")
    assert len(running) == passwords._AT_ONCE
    for task in waiting[10:]:
        task.cancel()
    await asyncio.sleep(0)
    may_end.set()
    assert await asyncio.gather(*waiting[:10]) == [True] * 10
    assert await work.verify("hash", "p")
    assert not await work.verify(None, "p"), "whatever the hash of nobody says"
    work.close()
