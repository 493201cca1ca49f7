"""`chappe feed` and `chappe usage export`, as somebody types them; and the control plane's own regular deliveries."""

import asyncio
import csv
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import structlog.testing

from chappe_control.rated_usage import Feeder
from chappe_control.working import Work, working
from chappe_kernel.rating import Counts
from tests.billing.conftest import Customer
from tests.conftest import DatabaseUrls
from tests.feed.conftest import Feed

CHAPPE = Path(sys.executable).with_name("chappe")


async def chappe(urls: DatabaseUrls, *arguments: str) -> tuple[int, str, str]:
    environ = {"PATH": os.environ["PATH"], "CHAPPE_DATABASE_URL": urls.app}
    process = await asyncio.create_subprocess_exec(
        str(CHAPPE), *arguments, stdout=PIPE, stderr=PIPE, env=environ, cwd="/"
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_feed_by_commands_alone(feed: Feed, customer: Customer, database_urls: DatabaseUrls) -> None:
    await feed.use(customer, Counts(100, 20, 30), Counts(1, 0, 1))
    code, out, err = await chappe(database_urls, "feed", "deliver", str(feed.path), "--records", "1")
    assert (code, out) == (0, "2 batches closed, 2 written\n"), err
    consumer = feed.consumer()
    consumer.run()
    assert consumer.bss.sums() == await feed.owed()
    chain = consumer.bss.taken[-1].chain
    assert (await chappe(database_urls, "feed", "acknowledge", "2", "--chain", chain))[0] == 0
    assert (await chappe(database_urls, "feed", "acknowledge", "1", "--chain", chain))[0] == 1
    code, out, _ = await chappe(database_urls, "feed", "status")
    assert code == 0
    assert (json.loads(out)["acknowledged_until"], json.loads(out)["gaps"]) == (0, [1])
    first, last = sorted(feed.path.glob("*.jsonl"))
    last.unlink()
    assert (await chappe(database_urls, "feed", "verify", str(feed.path)))[:2] == (0, "intact: 2 batches\n")
    content = first.read_bytes()
    first.unlink()
    code, _, err = await chappe(database_urls, "feed", "verify", str(feed.path))
    assert code == 1
    assert first.name in err
    assert (await chappe(database_urls, "feed", "request", "1", "--reason", "it was lost"))[0] == 0
    assert (await chappe(database_urls, "feed", "deliver", str(feed.path)))[0] == 0
    assert first.read_bytes() == content
    first.write_bytes(content.replace(b"welcome", b"Welcome"))
    assert (await chappe(database_urls, "feed", "verify", str(feed.path)))[0] == 1


async def test_usage_is_exported_by_a_command(
    feed: Feed, customer: Customer, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    await feed.use(customer, Counts(100, 20, 30), Counts(1, 0, 1))
    file = tmp_path / "usage.csv"
    code, _, err = await chappe(database_urls, "usage", "export", "--output", str(file))
    assert code == 0, err
    assert len(list(csv.DictReader(file.read_text().splitlines()))) == 2
    code, _, err = await chappe(database_urls, "usage", "export", "--tenant", "alpha")
    assert code == 1
    assert "ten_" in err


async def test_the_control_plane_feeds_regularly(feed: Feed, customer: Customer) -> None:
    await feed.use(customer, Counts(100, 20, 30))
    feeder, rounds = Feeder(feed.market.database, str(feed.path), 1000), asyncio.Queue[int]()

    async def feed_and_say() -> int:
        rounds.put_nowait(await feeder.feed())
        return 1

    async with working([Work("rated_usage", feed_and_say, 0.01)]):
        assert [await rounds.get(), await rounds.get()] == [1, 0]
    assert feed.consumer().run() == 1


async def test_a_delivery_that_fails_is_told_and_tried_again(feed: Feed, customer: Customer) -> None:
    await feed.use(customer, Counts(100, 20, 30))
    feed.path.write_bytes(b"a file where a folder should be")
    feeder = Feeder(feed.market.database, str(feed.path), 1000)
    with structlog.testing.capture_logs() as events:
        async with working([Work("rated_usage", feeder.feed, 0.01)]), asyncio.timeout(20):
            while not any(event["event"] == "work_failed" for event in events):  # noqa: ASYNC110 -- a logger sets no event
                await asyncio.sleep(0.01)
    feed.path.unlink()
    await feeder.feed()
    assert feed.consumer().run() == 1
