"""A client's trace reaches the engine if it is valid, and nothing else of what it says about tracing does."""

import pytest

from tests.gateway.world import RunningGateway, World, auth, chat_body

PATH = "/v1/chat/completions"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_a_valid_trace_reaches_the_engine(world: World, gateway: RunningGateway) -> None:
    headers = {**auth(world.key), "traceparent": PARENT, "tracestate": "rojo=00f067aa0ba902b7", "baggage": "user=me"}
    assert (await gateway.http.post(PATH, json=chat_body(), headers=headers)).status_code == 200
    head = world.engine.generations()[0].head.decode()
    assert f"traceparent: {PARENT}\r\n" in head
    assert "tracestate: rojo=00f067aa0ba902b7\r\n" in head
    assert "baggage" not in head


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", PARENT.upper())],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("tracestate", "rojo=1")],
        [("traceparent", PARENT.replace("00-", "ff-", 1)), ("tracestate", "rojo=1")],
    ],
)
async def test_what_is_not_valid_goes_nowhere(
    world: World, gateway: RunningGateway, headers: list[tuple[str, str]]
) -> None:
    sent = [*auth(world.key).items(), *headers]
    assert (await gateway.http.post(PATH, json=chat_body(), headers=sent)).status_code == 200
    assert "trace" not in world.engine.generations()[0].head.decode().lower()
