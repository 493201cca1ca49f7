"""Pages of usage events: complete, without repeats, whatever arrives meanwhile."""

from tests.control.world import World


async def test_pages_hold_every_event_once_while_new_ones_arrive(world: World) -> None:
    key = world.alice.keys["inference"]
    grant = await world.paris.lease(world.alice.id)
    first = [event.request_id for event in await world.paris.use(key, grant, 7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await world.api("GET", "/usage/events", params=params)).json()
        seen += [item["request_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await world.paris.use(key, grant, 1)
    assert len(seen) == len(set(seen)) == len(first)
    assert seen == sorted(seen, reverse=True)


async def test_event_says_what_it_cost(world: World) -> None:
    (event,) = await world.paris.use(world.alice.keys["inference"], await world.paris.lease(world.alice.id))
    (item,) = (await world.api("GET", "/usage/events")).json()["items"]
    assert set(item) == {
        *("request_id", "region", "model", "key_id", "price_version", "prompt_tokens", "cached_tokens"),
        *("completion_tokens", "amount", "currency", "outcome", "started_at", "finished_at"),
    }
    assert (item["amount"], item["currency"], item["region"]) == ("0.000004200", "EUR", "fr-par")
    assert (item["prompt_tokens"], item["completion_tokens"], item["outcome"]) == (42, 8, "completed")
    assert event.amount_nano == 4200


async def test_summary_is_the_sum_of_the_events(world: World) -> None:
    for cell in (world.paris, world.frankfurt):
        await cell.use(world.alice.keys["inference"], await cell.lease(world.alice.id), 2)
    summary = (await world.api("GET", "/usage/summary")).json()
    assert summary["total"] == "0.000016800"
    assert [(item["region"], item["requests"], item["amount"]) for item in summary["items"]] == [
        ("de-fra", 2, "0.000008400"),
        ("fr-par", 2, "0.000008400"),
    ]
    over = {"until": summary["since"]}
    assert (await world.api("GET", "/usage/summary", params=over)).json()["items"] == []


BAD_PARAMETERS = [
    ("/usage/events", {"limit": "0"}, "limit"),
    ("/usage/events", {"limit": "501"}, "limit"),
    ("/usage/events", {"limit": "-1"}, "limit"),
    ("/usage/events", {"limit": "many"}, "limit"),
    ("/usage/events", {"limit": "9" * 400}, "limit"),
    ("/usage/events", {"cursor": "x"}, "cursor"),
    ("/usage/events", {"cursor": ""}, "cursor"),
    ("/usage/events", {"cursor": "\x00"}, "cursor"),
    ("/usage/events", {"cursor": "AQGfrHkAAHAAgAAAAAAAAAA="}, "cursor"),
    ("/usage/events", {"cursor": "é" * 20}, "cursor"),
    ("/usage/events", {"cursor": "A" * 200}, "cursor"),
    ("/keys", {"cursor": "' OR 1=1 --"}, "cursor"),
    ("/projects", {"cursor": "Ag" + "A" * 21}, "cursor"),
    ("/usage/summary", {"since": "yesterday"}, "since"),
    ("/usage/summary", {"since": "2026-11-22T10:00:00"}, "since"),
    ("/usage/summary", {"since": "0001-01-01T00:00:00+14:00"}, "since"),
    ("/usage/summary", {"since": "2020-01-01T00:00:00Z"}, "since"),
    ("/usage/summary", {"since": "2999-01-01T00:00:00Z"}, "since"),
]


async def test_bad_parameters_are_named(world: World) -> None:
    for path, params, param in BAD_PARAMETERS:
        answer = await world.api("GET", path, params=params)
        assert (answer.status_code, answer.json().get("param")) == (400, param), (path, params, answer.text)


async def test_bounds_of_the_limit_are_allowed(world: World) -> None:
    for limit in ("1", "500"):
        assert (await world.api("GET", "/usage/events", params={"limit": limit})).status_code == 200
