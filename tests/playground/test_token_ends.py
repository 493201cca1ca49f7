"""From the portal to the gateways, all of it real: a token works at once, and ends everywhere within a second."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chappe_kernel.ids import KEY, encode_id
from tests.playground.cells import Gateways, new_token
from tests.portal.world import CHAT, Customer, PortalWorld, unlike

End = Callable[[Customer], Awaitable[None]]

WITHIN_S = 1.0


async def ready(portal: PortalWorld, gateways: Gateways) -> tuple[Customer, str]:
    """A new customer with a token that every gateway has taken, and therefore remembers."""
    customer = await portal.sign_up(unlike())
    token = await new_token(customer)
    await gateways.seconds_until(token, 200)
    return customer, token


async def ends_in_time(portal: PortalWorld, gateways: Gateways, end: End, status: int) -> None:
    """The best of three. With others on the machine there is no saying what a second of its time is: `alone`."""
    taken = []
    for _ in range(3):
        customer, token = await ready(portal, gateways)
        await end(customer)
        taken.append(await gateways.seconds_until(token, status))
        if taken[-1] < WITHIN_S:
            return
    raise AssertionError(f"it took {taken} seconds")


async def playground_key(portal: PortalWorld, customer: Customer) -> str:
    ((key_id,),) = await portal.sql(
        "SELECT id FROM api_key WHERE tenant_id = $1 AND purpose = 'playground' AND revoked_at IS NULL", customer.id
    )
    return encode_id(KEY, key_id)


@pytest.mark.alone
async def test_sign_out_ends_the_token_at_every_gateway_within_a_second(
    portal: PortalWorld, gateways: Gateways
) -> None:
    async def sign_out(customer: Customer) -> None:
        assert (await customer.visitor.post("/sign-out")).status_code == 303

    await ends_in_time(portal, gateways, sign_out, 401)


@pytest.mark.alone
async def test_suspension_ends_the_token_at_every_gateway_within_a_second(
    portal: PortalWorld, gateways: Gateways
) -> None:
    async def suspend(customer: Customer) -> None:
        await portal.sql("UPDATE tenant SET state = 'suspended' WHERE id = $1", customer.id)

    await ends_in_time(portal, gateways, suspend, 403)


@pytest.mark.alone
async def test_revoking_the_playground_key_ends_its_tokens_at_every_gateway_within_a_second(
    portal: PortalWorld, gateways: Gateways
) -> None:
    async def revoke(customer: Customer) -> None:
        answer = await customer.visitor.post(f"/keys/{await playground_key(portal, customer)}/revoke")
        assert answer.status_code == 303, answer.text

    await ends_in_time(portal, gateways, revoke, 401)


async def test_after_a_revoked_playground_key_another_takes_its_place(portal: PortalWorld, gateways: Gateways) -> None:
    customer, token = await ready(portal, gateways)
    first = await playground_key(portal, customer)
    answer = await customer.visitor.post(f"/keys/{first}/revoke")
    assert answer.status_code == 303, answer.text
    await gateways.seconds_until(token, 401)
    assert await gateways.statuses(await new_token(customer)) == {200}
    assert await playground_key(portal, customer) != first


async def test_signing_out_leaves_another_sessions_token_alone(portal: PortalWorld, gateways: Gateways) -> None:
    customer, token = await ready(portal, gateways)
    other, others_token = await ready(portal, gateways)
    await customer.visitor.post("/sign-out")
    await gateways.seconds_until(token, 401)
    assert await gateways.statuses(others_token) == {200}
    assert other.id != customer.id


async def test_usage_is_posted_under_the_playground_key_and_told_to_its_tenant_alone(
    portal: PortalWorld, gateways: Gateways
) -> None:
    customer = await portal.sign_up(unlike())
    stranger = await portal.sign_up(unlike())
    token = await new_token(customer)
    answer = await gateways.chat(token, "fr-par")
    assert answer.status_code == 200, answer.text
    path = f"/playground/requests/{answer.headers['x-request-id']}"
    async with asyncio.timeout(5):
        while not (settled := (await customer.visitor.get(path)).json())["settled"]:  # noqa: ASYNC110 -- posted elsewhere
            await asyncio.sleep(0.05)
    price = (await portal.offers("fr-par"))[CHAT].price
    usage = answer.json()["usage"]
    cost_nano = 6 * price.input_nano_per_token + 2 * price.output_nano_per_token + price.request_nano
    assert settled == {
        "settled": True,
        "outcome": "completed",
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": 0,
        "completion_tokens": usage["completion_tokens"],
        "amount_nano": str(cost_nano),
    }
    assert (await stranger.visitor.get(path)).json() == (await stranger.visitor.get(path[:-1] + "0")).json()
    assert not (await stranger.visitor.get(path)).json()["settled"]
    page = await customer.read(f"/requests/{answer.headers['x-request-id']}")
    assert "Playground" in page.text
