"""What a gateway must not be talked into: another key's facts, another upstream, a limit skipped."""

import pytest

from chappe_kernel import api_keys
from chappe_kernel.api_keys import KeyKind, generate_key, is_well_formed
from tests.gateway.test_answers_shape import check_error
from tests.gateway.world import RunningGateway, World, auth, chat_body

PATH = "/v1/chat/completions"
KEY_HEADERS = ["x-api-key", "api-key"]
"""Azure's and Anthropic's clients send a key in these."""
UPSTREAMS = [
    "api_base",
    "base_url",
    "api_key",
    "upstream",
    "url",
    "proxy",
    "extra_headers",
    "deployment",
    "user_config",
]


async def test_a_key_that_begins_like_a_known_one_is_another_key(world: World, gateway: RunningGateway) -> None:
    """LiteLLM CVE-2026-35030: a cache that looked at a token's beginning alone."""
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(world.key))).status_code == 200
    for shared in (4, 10, len(world.key) - 8):
        twin = _twin(world.key, shared)
        assert is_well_formed(twin) and twin[:shared] == world.key[:shared]
        check_error(await gateway.http.post(PATH, json=chat_body(), headers=auth(twin)), 401, "invalid_api_key")


@pytest.mark.parametrize("field", UPSTREAMS)
async def test_a_client_cannot_choose_the_upstream(world: World, gateway: RunningGateway, field: str) -> None:
    """LiteLLM issue 37053: a client named another host, and the operator's key went there."""
    body = chat_body(**{field: "http://127.0.0.1:1/evil"})
    answer = await gateway.http.post(PATH, json=body, headers=auth(world.key))
    check_error(answer, 400, "unknown_parameter", field)
    name = f"x-{field.replace('_', '-')}"
    headers = {**auth(world.key), name: "http://127.0.0.1:1/evil"}
    answer = await gateway.http.post(PATH, json=chat_body(), headers=headers)
    if name in KEY_HEADERS:
        check_error(answer, 401, "invalid_api_key")
    else:
        assert answer.status_code == 200


@pytest.mark.parametrize("header", ["x-goog-api-key", "cookie", "proxy-authorization", "token"])
async def test_another_header_is_no_way_around_a_limit(world: World, gateway: RunningGateway, header: str) -> None:
    """Open WebUI CVE-2026-45339: limits were counted by one header, and another one let in."""
    limited = world.control.new_key(world.tenant, requests_per_minute=1)
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(limited))).status_code == 200
    for sent in (auth(limited), {**auth(limited), header: world.key}, {**auth(limited), header: f"Bearer {world.key}"}):
        answer = await gateway.http.post(PATH, json=chat_body(), headers=sent)
        check_error(answer, 429, "rate_limit_exceeded")
    alone = await gateway.http.post(PATH, json=chat_body(), headers={header: world.key})
    check_error(alone, 401, "invalid_api_key")


@pytest.mark.parametrize("header", KEY_HEADERS)
async def test_a_key_is_limited_in_whatever_header_it_comes(world: World, gateway: RunningGateway, header: str) -> None:
    """And two keys are none: nobody has to know which of them counts."""
    limited = world.control.new_key(world.tenant, requests_per_minute=1)
    assert (await gateway.http.post(PATH, json=chat_body(), headers=auth(limited))).status_code == 200
    answer = await gateway.http.post(PATH, json=chat_body(), headers={header: limited})
    check_error(answer, 429, "rate_limit_exceeded")
    for other in (world.key, limited, f"Bearer {world.key}"):
        answer = await gateway.http.post(PATH, json=chat_body(), headers={**auth(limited), header: other})
        check_error(answer, 401, "invalid_api_key")


def _twin(key: str, shared: int) -> str:
    """A well-formed key that nobody made, with so many characters in common from the front."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    donor = generate_key(KeyKind.INFERENCE)
    body = key[:shared] + donor[shared:-6]
    if body == key[:-6]:
        body = body[:-1] + alphabet[(alphabet.index(body[-1]) + 1) % len(alphabet)]
    return body + api_keys._checksum(body)
