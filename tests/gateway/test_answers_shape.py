"""Every answer, whatever went wrong, has OpenAI's shape and says which request it was and where."""

import httpx
import pytest

from chappe_kernel.ids import REQUEST, decode_id
from tests.gateway.fake_control import CHAT
from tests.gateway.world import RawClient, RunningGateway, World, auth, chat_body, status_leaves


def check_error(
    answer: httpx.Response, status: int, code: str, param: str | None = None, *, region: str = "fr-par"
) -> str:
    assert answer.status_code == status, answer.text
    decode_id(REQUEST, answer.headers["x-request-id"])
    assert answer.headers["x-chappe-region"] == region
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["param"] == param
    assert isinstance(error["message"], str)
    assert error["message"]
    return str(error["message"])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/responsesx",
        "/v1/uploads",
        "/v1/filesx",
        "/v1/batchesx",
        "/-/routes",
        "/-/healthz",
        "/docs",
        "/v1/modelsx",
    ],
)
async def test_unknown_paths_are_404(gateway: RunningGateway, path: str, *, region: str = "fr-par") -> None:
    check_error(await gateway.http.get(path), 404, "not_found")


async def test_wrong_method_names_the_right_one(world: World, gateway: RunningGateway) -> None:
    answer = await gateway.http.get("/v1/chat/completions", headers=auth(world.key))
    check_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


async def test_broken_http_is_400_in_shape(gateway: RunningGateway) -> None:
    async with RawClient.to(gateway.port) as client:
        client.writer.write(b"NONSENSE\r\n\r\n")
        status, headers = await client.read_head()
    assert status == 400
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-chappe-region"] == "fr-par"


async def test_success_carries_both_headers_and_none_of_the_engines(world: World, gateway: RunningGateway) -> None:
    for stream in (False, True):
        answer = await gateway.http.post("/v1/chat/completions", json=chat_body(stream=stream), headers=auth(world.key))
        assert answer.status_code == 200
        decode_id(REQUEST, answer.headers["x-request-id"])
        assert answer.headers["x-chappe-region"] == "fr-par"
        assert int(answer.headers["x-ratelimit-limit-requests"]) == 600_000
        assert not {"x-ray", "x-chappe-end", "server"} & set(answer.headers)


async def test_no_header_of_the_client_goes_upstream(world: World, gateway: RunningGateway) -> None:
    sent = {
        "x-request-timeout-seconds": "1",
        "x-request-disconnect-disabled": "1",
        "serve_multiplexed_model_id": "m",
        "x-session-id": "s",
        "traceparent": "t",
        "cookie": "c",
        "x-request-id": "mine",
        "x-forwarded-for": "10.0.0.1",
    }
    answer = await gateway.http.post("/v1/chat/completions", json=chat_body(), headers={**auth(world.key), **sent})
    head = world.engine.generations()[0].head.decode()
    names = {line.split(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert names == {"host", "content-type", "content-length", "x-request-id"}
    assert answer.headers["x-request-id"] in head
    assert world.key not in head


async def test_health_says_when_the_snapshot_is_too_old(world: World) -> None:
    world.control.max_age_s = 0.3
    async with world.gateway() as gateway:
        assert (await gateway.http.get("/healthz")).status_code == 200
        world.control.away = True
        await status_leaves(lambda: gateway.http.get("/healthz"), 200)
        answer = await gateway.http.post("/v1/chat/completions", json=chat_body(), headers=auth(world.key))
        check_error(answer, 503, "snapshot_too_old")
    assert world.engine.generations() == []


async def test_unknown_model_is_404_and_foreign_ones_name_their_region(world: World, gateway: RunningGateway) -> None:
    async def ask(key: str, model: str) -> httpx.Response:
        return await gateway.http.post("/v1/chat/completions", json={**chat_body(), "model": model}, headers=auth(key))

    check_error(await ask(world.key, "nonesuch"), 404, "model_not_found", "model")
    message = check_error(await ask(world.key, "only-in-frankfurt"), 404, "model_not_found", "model")
    assert "de-fra" in message
    only_here = world.control.new_key(world.tenant, regions=("fr-par",))
    message = check_error(await ask(only_here, "only-in-frankfurt"), 404, "model_not_found", "model")
    assert "de-fra" not in message
    other_models = world.control.new_key(world.tenant, models=("something",))
    check_error(await ask(other_models, CHAT), 404, "model_not_found", "model")
    check_error(await ask(world.key, "multilingual-e5-small"), 400, "wrong_task", "model")
    answer = await gateway.http.get("/v1/models/only-in-frankfurt", headers=auth(world.key))
    check_error(answer, 404, "model_not_found", "model")
