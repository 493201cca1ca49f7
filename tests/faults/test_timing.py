"""How long a check takes tells nothing of the secret that it checks (vLLM CVE-2025-59425)."""

import hashlib
import secrets
import statistics
import time
from collections.abc import Callable, Sequence

import pytest

from chappe_kernel.api_keys import KeyKind, Pepper, digest_key, generate_key, is_well_formed
from chappe_tenants.sessions.service import find_member

PEPPER = Pepper(1, b"p" * 32)
_ROUNDS = 4000
_NOISE = 0.25


def median_ns(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Of each text, asked in turns, so that whatever else the machine does slows all of them alike."""
    taken: list[list[int]] = [[] for _ in texts]
    for _ in range(_ROUNDS):
        for times, text in zip(taken, texts, strict=True):
            begun = time.perf_counter_ns()
            work(text)
            times.append(time.perf_counter_ns() - begun)
    return [statistics.median(times) for times in taken]


@pytest.mark.alone
@pytest.mark.parametrize("kind", KeyKind)
def test_where_a_key_is_wrong_takes_no_longer_to_see(kind: KeyKind) -> None:
    """Its digest is looked up by an index, and an attacker cannot choose what a digest begins with."""
    right = generate_key(kind)
    wrong_early = right[:4] + _other(right[4]) + right[5:]
    wrong_late = right[:-1] + _other(right[-1])

    def check(key: str) -> object:
        return is_well_formed(key), digest_key(key, PEPPER)

    times = median_ns(check, [right, wrong_early, wrong_late])
    assert max(times) - min(times) < _NOISE * max(times), times


async def test_a_session_is_looked_up_by_a_digest_and_never_by_its_secret() -> None:
    """What reaches the database has nothing in common with a secret that differs in one character."""
    sent: list[bytes] = []

    class Watched:
        async def execute(self, _: object, values: dict[str, object]) -> "Watched":
            sent.append(values["asked"])  # type: ignore[arg-type]  # bytes, as the query says
            return self

        def mappings(self) -> "Watched":
            return self

        def first(self) -> None:
            return None

    secret = secrets.token_urlsafe(32)
    for text in (secret, secret[:-1] + _other(secret[-1])):
        assert await find_member(Watched(), text) is None  # type: ignore[arg-type]  # a session as far as it goes
    assert sent[0] == hashlib.sha256(secret.encode()).digest()
    assert sum(a == b for a, b in zip(*sent, strict=True)) < 8


def _other(character: str) -> str:
    return "A" if character != "A" else "B"
