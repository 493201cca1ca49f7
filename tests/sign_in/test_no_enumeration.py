"""Nobody learns from an answer, or from the time that it takes, whether an address has an account.

Times are compared as samples, taken in turns so that whatever else the machine does falls on both alike: a rank test
(Mann-Whitney) must find no difference, and must find the one that a shortcut for unknown addresses would make.
"""

import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from argon2 import PasswordHasher

from chappe_tenants.passwords import PasswordWork
from tests.control.running import hashing_with
from tests.pages.browser import Visitor
from tests.sign_in.site import Site

WRONG = "not the password 1"
_ROUNDS = 40
# Two-sided; chance alone exceeds it once in 30,000 comparisons.
_TOO_FAR_APART = 4.2

# Each answer's own, whoever asks.
_DRAWN = {"date", "content-length", "x-request-id"}

Ask = Callable[[Visitor, str], Awaitable[httpx.Response]]


async def ask_to_sign_up(visitor: Visitor, email: str) -> httpx.Response:
    return await visitor.post("/sign-up", organisation="Probe", email=email)


async def ask_for_reset(visitor: Visitor, email: str) -> httpx.Response:
    return await visitor.post("/forgot-password", email=email)


async def guess(visitor: Visitor, email: str) -> httpx.Response:
    return await visitor.post("/sign-in", email=email, password=WRONG)


@pytest.fixture
async def hashing_site(site: Site) -> AsyncIterator[Site]:
    """A tenth of a real hash's work: enough to be seen, and little enough to be done some hundred times."""
    with hashing_with(PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)):
        async with site.strict() as fresh:
            yield fresh


ASKS = pytest.mark.parametrize("ask", [ask_to_sign_up, ask_for_reset, guess], ids=lambda ask: ask.__name__)


@ASKS
async def test_the_answer_is_the_same(site: Site, ask: Ask) -> None:
    _, known = await site.member()
    answers = []
    visitor = site.visitor()
    await visitor.csrf_token()
    for email in (known, _stranger()):
        answer = await ask(visitor, email)
        headers = {name: value for name, value in answer.headers.items() if name not in _DRAWN}
        answers.append((answer.status_code, answer.text.replace(email, "…"), headers))
    (status, text, headers), other = answers
    assert (status, text) == other[:2]
    assert headers.items() ^ other[2].items() == set()


@ASKS
async def test_it_takes_the_same_time(hashing_site: Site, ask: Ask) -> None:
    assert abs(await _how_far_apart(hashing_site, ask)) < _TOO_FAR_APART


async def test_a_shortcut_would_be_noticed(hashing_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same measurement of a sign-in that does not look at a password when it knows of none: it must fail."""
    _skip_unknown(monkeypatch)
    assert await _how_far_apart(hashing_site, guess) > _TOO_FAR_APART


@ASKS
async def test_asking_looks_nothing_up_and_leaves_the_same_rows(site: Site, ask: Ask) -> None:
    """What differs is told by mail alone. A known address and an unknown one cost the same rows."""
    _, known = await site.member()
    grown = []
    for email in (known, _stranger()):
        before = [await site.count(table) for table in ("mail_link", "outbox", "audit_entry", "account", "member")]
        await ask(site.visitor(), email)
        after = [await site.count(table) for table in ("mail_link", "outbox", "audit_entry", "account", "member")]
        grown.append([more - less for less, more in zip(before, after, strict=True)])
    assert grown[0] == grown[1]


async def _how_far_apart(site: Site, ask: Ask) -> float:
    """In standard deviations of the rank sum: above zero if known addresses take longer."""
    known = [(await site.member())[1] for _ in range(_ROUNDS // 4)]
    visitor = site.visitor()
    await visitor.csrf_token()
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(_ROUNDS):
        for is_known in (True, False) if number % 2 else (False, True):
            email = known[number % len(known)] if is_known else _stranger()
            started = time.perf_counter()
            await ask(visitor, email)
            taken[is_known].append(time.perf_counter() - started)
    return rank_distance(taken[True], taken[False])


def rank_distance(first: list[float], second: list[float]) -> float:
    """Mann and Whitney's U by its normal approximation, good for samples of more than 20."""
    ranks = {value: place for place, value in enumerate(sorted((*first, *second)), 1)}
    wins = sum(ranks[value] for value in first) - len(first) * (len(first) + 1) / 2
    pairs = len(first) * len(second)
    return (wins - pairs / 2) / math.sqrt(pairs * (len(first) + len(second) + 1) / 12)


def test_the_measure_finds_what_is_there_and_nothing_else() -> None:
    even, odd = [float(n) for n in range(0, 80, 2)], [float(n) for n in range(1, 80, 2)]
    assert abs(rank_distance(even, odd)) < 1
    assert rank_distance([value + 40 for value in even], odd) > _TOO_FAR_APART
    assert rank_distance(even, [value + 40 for value in odd]) < -_TOO_FAR_APART


def _skip_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had saved the work for an address that nobody has."""
    honest = PasswordWork.verify

    async def hasty(work: PasswordWork, password_hash: str | None, password: str) -> bool:
        return password_hash is not None and await honest(work, password_hash, password)

    monkeypatch.setattr(PasswordWork, "verify", hasty)


def _stranger() -> str:
    return f"mia-{secrets.token_hex(6)}@example.eu"
