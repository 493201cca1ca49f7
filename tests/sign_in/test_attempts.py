"""Guessing is slow, and nobody is locked out by others."""

from chappe_control.sign_in.attempts import Attempts, Realm
from chappe_control.throttle import Throttle
from chappe_kernel.errors import LimitExceeded
from tests.pages.browser import PASSWORD
from tests.sign_in.site import OPERATOR, Site, at_once, try_sign_in

WRONG = "not the password 1"


async def test_an_address_may_be_wrong_so_often_a_minute(site: Site) -> None:
    _, email = await site.member()
    async with site.strict(sign_in_failures_per_minute=3) as strict:
        visitor = strict.visitor()
        statuses = [await try_sign_in(visitor, f"guess-{n}@example.eu", WRONG) for n in range(5)]
        assert statuses == [403, 403, 403, 429, 429]
        answer = await visitor.post("/sign-in", email=email, password=PASSWORD)
        assert answer.status_code == 429, "also with the right password: the address has abused its tries"
        assert "Too many attempts" in answer.text
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        strict.clock.advance(60)
        assert await try_sign_in(visitor, email) == 303


async def test_a_header_that_claims_another_address_changes_nothing(site: Site) -> None:
    async with site.strict(sign_in_failures_per_minute=1) as strict:
        visitor = strict.visitor()
        statuses = []
        for number in range(3):
            answer = await visitor.request(
                "POST",
                "/sign-in",
                headers={
                    "origin": visitor.portal_url,
                    "x-forwarded-for": f"192.0.2.{number}",
                    "forwarded": f"for=192.0.2.{number}",
                    "x-real-ip": f"192.0.2.{number}",
                },
                data={"_csrf_token": await visitor.csrf_token(), "email": "a@example.eu", "password": WRONG},
            )
            statuses.append(answer.status_code)
        assert statuses == [403, 429, 429]


async def test_a_hundred_at_once_are_not_a_hundred_guesses(site: Site) -> None:
    async with site.strict(sign_in_failures_per_minute=4) as strict:
        visitors = [strict.visitor() for _ in range(30)]
        for visitor in visitors:
            await visitor.csrf_token()
        statuses = await at_once(*(try_sign_in(visitor, "a@example.eu", WRONG) for visitor in visitors))
        assert statuses.count(403) == 4
        assert statuses.count(429) == 26


async def test_success_does_not_count(site: Site) -> None:
    _, email = await site.member()
    async with site.strict(sign_in_failures_per_minute=2, account_failures_per_minute=2) as strict:
        for _ in range(6):
            assert await try_sign_in(strict.visitor(), email) == 303


async def test_an_account_under_attack_opens_from_a_clean_address(site: Site) -> None:
    async with site.strict(sign_in_failures_per_minute=100, account_failures_per_minute=5) as strict:
        throttle = _throttle(strict)
        attempts = Attempts(throttle, strict.settings, Realm.PORTAL)
        for number in range(5):
            await attempts.begin("victim@example.eu", f"198.51.100.{number}")
        for number in range(5):
            await _refused(attempts, f"198.51.100.{number}")
        await attempts.begin("victim@example.eu", "203.0.113.1")
        await _refused(attempts, "203.0.113.1")
        await attempts.begin("other@example.eu", "198.51.100.1")
        elsewhere = Attempts(throttle, strict.settings, Realm.CONSOLE)
        await elsewhere.begin("victim@example.eu", "198.51.100.1")


async def test_a_right_password_in_the_middle_of_an_attack_gets_in(site: Site) -> None:
    """Others have used up what the account may fail; the victim comes from an address of their own."""
    _, email = await site.member()
    async with site.strict(account_failures_per_minute=2) as strict:
        attempts = Attempts(_throttle(strict), strict.settings, Realm.PORTAL)
        for number in range(9):
            await attempts.begin(email, f"198.51.100.{number}")
        assert await try_sign_in(strict.visitor(), email) == 303


async def test_portal_and_console_count_apart(site: Site) -> None:
    async with site.strict(sign_in_failures_per_minute=1) as strict:
        visitor = strict.visitor()
        assert [await try_sign_in(visitor, "a@example.eu", WRONG) for _ in range(2)] == [403, 429]
        assert (await visitor.post("/console/sign-in", email=OPERATOR, password=PASSWORD)).status_code == 303


async def test_counters_hold_no_address_of_a_person(site: Site) -> None:
    async with site.strict() as strict:
        await try_sign_in(strict.visitor(), "somebody-private@example.eu", WRONG)
        throttle = _throttle(strict)
        names = [name async for name in throttle._redis.scan_iter("*")]
        assert any(b"sign-in-account:" in name for name in names)
        assert not any(b"somebody-private" in name for name in names)


async def test_without_redis_people_still_sign_in(site: Site) -> None:
    _, email = await site.member()
    async with site.strict(redis_url="unix:///nowhere.sock", sign_in_failures_per_minute=1) as strict:
        for _ in range(3):
            assert await try_sign_in(strict.visitor(), email, WRONG) == 403
        assert await try_sign_in(strict.visitor(), email) == 303


def _throttle(site: Site) -> Throttle:
    return Throttle(site.redis, site.clock)


async def _refused(attempts: Attempts, address: str) -> None:
    try:
        await attempts.begin("victim@example.eu", address)
    except LimitExceeded as error:
        assert 1 <= error.retry_after_s <= 60
    else:
        raise AssertionError("it is refused")
