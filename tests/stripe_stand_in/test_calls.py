"""What all calls have in common: keys, versions, unknown parameters, pages of lists, expansion, search, restarts."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from stripe import AIOHTTPClient, AuthenticationError, InvalidRequestError, StripeClient

from tests.gateway.servers import free_port
from tests.stripe_server import LocalStripe
from tests.stripe_stand_in import doing


async def test_another_key_opens_nothing(stripe: LocalStripe) -> None:
    http = AIOHTTPClient(session=stripe.session)
    other = StripeClient("sk_test_other", http_client=http, base_addresses={"api": stripe.url})
    with pytest.raises(AuthenticationError):
        await other.v1.customers.list_async()


async def test_another_version_is_refused(client: StripeClient) -> None:
    with pytest.raises(InvalidRequestError, match="API version"):
        await client.v1.customers.list_async({}, {"stripe_version": "2020-08-27"})


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"amount": 100, "currency": "eur", "amuont": 1}, "parameter_unknown", "amuont"),
        ({"currency": "eur"}, "parameter_missing", "amount"),
        ({"amount": "1.5", "currency": "eur"}, "parameter_invalid_integer", "amount"),
        ({"amount": 100, "currency": "eur", "customer": ""}, "parameter_invalid_empty", "customer"),
        ({"amount": 100, "currency": "eur", "customer": "cus_nobody"}, "resource_missing", "customer"),
        ({"amount": 100, "currency": "eur", "shipping": {"nmae": "x"}}, "parameter_unknown", "shipping[nmae]"),
    ],
)
async def test_wrong_parameters_are_named(client: StripeClient, given: Any, code: str, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.v1.payment_intents.create_async(given)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)


async def test_what_is_not_there_is_404(client: StripeClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.v1.customers.retrieve_async("cus_nobody")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    # An id of another kind is nobody's either.
    intent = await doing.paid(client)
    with pytest.raises(InvalidRequestError):
        await client.v1.customers.retrieve_async(intent.id)


async def test_lists_are_walked_in_pages_newest_first(client: StripeClient) -> None:
    made = [(await doing.customer(client, name=str(number))).id for number in range(7)]
    first = await client.v1.customers.list_async({"limit": 3})
    assert ([one.id for one in first.data], first.has_more) == (made[:3:-1], True)
    walked = [one.id async for one in first.auto_paging_iter()]
    assert walked == made[::-1]
    before = await client.v1.customers.list_async({"limit": 2, "ending_before": made[2]})
    assert [one.id for one in before.data] == [made[4], made[3]]
    with pytest.raises(InvalidRequestError):
        await client.v1.customers.list_async({"limit": 101})
    with pytest.raises(InvalidRequestError):
        await client.v1.customers.list_async({"starting_after": "cus_nobody"})


async def test_search_finds_by_metadata_and_fields(client: StripeClient) -> None:
    for number in range(3):
        await doing.customer(client, email=f"a{number}@b.eu", metadata={"tenant": f"ten_{number}", "all": "it's"})

    async def emails(query: str) -> list[str | None]:
        return [one.email for one in (await client.v1.customers.search_async({"query": query})).data]

    assert await emails("metadata['tenant']:'ten_1'") == ["a1@b.eu"]
    assert await emails('metadata["all"]:"it\'s" AND -email:"a1@b.eu"') == ["a2@b.eu", "a0@b.eu"]
    assert await emails("email~'0@b' OR metadata['tenant']:'ten_2'") == ["a2@b.eu", "a0@b.eu"]
    assert await emails("metadata['other']:null AND created>0 AND email:'a0@b.eu'") == ["a0@b.eu"]
    for wrong in ("email", "secret:'x'", "email:'a' AND name:'b' OR name:'c'", "email:'x"):
        with pytest.raises(InvalidRequestError):
            await emails(wrong)


async def test_metadata_is_merged_and_unset(client: StripeClient) -> None:
    who = await doing.customer(client, metadata={"a": "1", "b": "2"})
    changed = await client.v1.customers.update_async(who.id, {"metadata": {"b": "", "c": "3"}})
    assert changed.to_dict()["metadata"] == {"a": "1", "c": "3"}
    cleared = await client.v1.customers.update_async(who.id, {"metadata": ""})
    assert cleared.to_dict()["metadata"] == {}


async def test_expansion_goes_deep_and_no_further(client: StripeClient) -> None:
    who = await doing.customer(client)
    intent = await doing.paid(client, customer=who.id)
    found = await client.v1.charges.list_async({"expand": ["data.payment_intent.customer"]})
    inner: Any = found.data[0].payment_intent
    assert (inner.id, inner.customer.email) == (intent.id, who.email)
    for wrong in ("amount", "nothing", "customer.name"):
        with pytest.raises(InvalidRequestError, match="cannot be expanded"):
            await client.v1.charges.retrieve_async(str(intent.latest_charge), {"expand": [wrong]})


async def test_notes_of_its_own_are_never_told(client: StripeClient, stripe: LocalStripe) -> None:
    await doing.paid(client)
    found = await stripe.http.get(f"{stripe.url}/v1/events", headers={"authorization": f"Bearer {stripe.api_key}"})
    assert '"_' not in found.text and '"data": [' in found.text


async def test_switches_need_their_token(stripe: LocalStripe) -> None:
    for token in ("x", stripe.api_key, f"{stripe.config.switch_token}x"):
        headers = {"authorization": f"Bearer {token}"}
        assert (
            await stripe.http.post(f"{stripe.url}/_switches/away", json={"away": True}, headers=headers)
        ).status_code == 401
    headers = {"authorization": f"Bearer {stripe.config.switch_token}"}
    for name, body in (("nothing", {}), ("away", {}), ("fault", {"path": "/", "do": "explode"})):
        answer = await stripe.http.post(f"{stripe.url}/_switches/{name}", json=body, headers=headers)
        assert answer.status_code == 400


async def test_a_killed_stand_in_goes_on_where_it_was(tmp_path: Path) -> None:
    """The program itself, as `make up` starts it."""
    port = free_port()
    environment = {"STAND_IN_API_KEY": "sk_test_killed", "STAND_IN_SWITCH_TOKEN": "x", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "chappe_local.stripe_stand_in", str(tmp_path / "stripe.sqlite"), str(port)]
    seen = []
    for sign in (signal.SIGKILL, signal.SIGTERM):
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
        try:
            seen.append(await _charge(port))
        finally:
            process.send_signal(sign)
            await process.wait()
    assert seen[0] == seen[1]


async def _charge(port: int) -> tuple[str, int]:
    async with aiohttp.ClientSession() as session:
        client = StripeClient(
            "sk_test_killed",
            http_client=AIOHTTPClient(session=session),
            base_addresses={"api": f"http://127.0.0.1:{port}"},
            max_network_retries=20,
        )
        given: Any = {"amount": 900, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
        given |= doing.NO_REDIRECTS
        intent = await client.v1.payment_intents.create_async(given, {"idempotency_key": "once"})
        return intent.id, len((await client.v1.charges.list_async()).data)
