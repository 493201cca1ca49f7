"""What `chappe control` leaves to `chappe worker` is done by it; killed at any moment, another one goes on."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from chappe_control import app as control_app
from chappe_control import works
from chappe_control.app import create_app
from chappe_control.settings import ControlSettings
from chappe_control.working import Work
from chappe_kernel.rating import Counts
from tests.billing.conftest import Customer
from tests.conftest import DatabaseUrls
from tests.control.conftest import serve, settings, valkey
from tests.control.world import AUDIT_KEYS_TEXT, PEPPERS_TEXT, HandClock
from tests.feed.conftest import Feed, customer, feed, make_customer, market

__all__ = ["customer", "feed", "make_customer", "market", "settings", "valkey"]

WITHIN_S = 100.0
EVERYTHING = {
    *("price_corrections", "cut_offs", "advances", "invoices", "invoice_documents", "rated_usage", "retention"),
    *("notices", "webhooks", "webhook_log", "invoice_letters", "alerts", "dunning", "mail", "audit_log", "vat_numbers"),
    *("payment_calls", "payments_looked_after", "payment_events", "auto_top_ups", "collections", "collections_again"),
    *("withdrawals", "usage_reports"),
}


@pytest.mark.parametrize(
    ("with_works", "expected"),
    [(True, {"restores", *EVERYTHING}), (False, {"restores", "mail", "payment_calls"})],
)
async def test_a_control_plane_does_everything_or_only_what_somebody_waits_for(
    settings: ControlSettings, monkeypatch: pytest.MonkeyPatch, with_works: bool, expected: set[str]
) -> None:
    begun: set[str] = set()

    def note(those: Iterable[Work], *, grace_s: float = 0.0) -> AbstractAsyncContextManager[None]:
        begun.update(work.name for work in those)
        return nullcontext()

    monkeypatch.setattr(works, "working", note)
    monkeypatch.setattr(control_app, "working", note)
    own = replace(
        settings,
        works=with_works,
        smtp_url="smtp://127.0.0.1:1",
        mail_from="a@b.example",
        stripe_api_key="sk_test_x",
        stripe_api_base="http://127.0.0.1:1",
    )
    async with create_app(own).lifespan():
        pass
    assert begun == expected


def environ_of(urls: DatabaseUrls, heartbeat: Path, folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "CHAPPE_DATABASE_URL": urls.app,
        "CHAPPE_KEY_PEPPERS": PEPPERS_TEXT,
        "CHAPPE_AUDIT_KEYS": AUDIT_KEYS_TEXT,
        "CHAPPE_PORTAL_URL": "http://localhost:8400",
        "CHAPPE_HEARTBEAT_FILE": str(heartbeat),
        "CHAPPE_FEED_FOLDER": str(folder),
        "CHAPPE_FEED_EVERY_S": "0.05",
        # Behind all that a busy machine does beside the tests it might not come to anything for minutes.
        "CHAPPE_NICENESS": "0",
    }


@asynccontextmanager
async def worker(environ: dict[str, str]) -> AsyncIterator[Process]:
    command = str(Path(sys.executable).with_name("chappe"))
    process = await asyncio.create_subprocess_exec(
        command, "worker", env=environ, stdout=PIPE, stderr=PIPE, cwd="/", start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110 -- only asking can tell what another process did
            await asyncio.sleep(0.05)


async def test_the_worker_does_what_the_control_plane_leaves_to_it_and_another_goes_on_when_it_is_killed(
    feed: Feed, customer: Customer, database_urls: DatabaseUrls, settings: ControlSettings, tmp_path: Path
) -> None:
    await feed.use(customer, Counts(100, 20, 30))
    environ = environ_of(database_urls, tmp_path / "heartbeat", feed.path)

    async def batches() -> int:
        return int(await feed.market.scalar("SELECT count(*) FROM rated_usage_batch"))

    async def is_signed() -> bool:
        return bool(await feed.market.scalar("SELECT count(*) FROM audit_checkpoint"))

    quick = replace(settings, works=False, audit_keys="", feed_every_s=0.01, audit_checkpoint_s=0.01)
    async with serve(quick, HandClock()):
        async with worker(environ) as first:
            await until(is_signed)
            await until(lambda: _is(batches, 1))
            assert (tmp_path / "heartbeat").exists()
            first.kill()
            await first.wait()
        await feed.use(customer, Counts(1, 0, 1))
        assert await batches() == 1, "the control plane has closed nothing meanwhile"
        async with worker(environ):
            await until(lambda: _is(batches, 2))
    # What was closed and not written before a kill is written by whoever is next: at the latest here.
    await feed.write()
    consumer = feed.consumer()
    consumer.run()
    assert consumer.bss.sums() == await feed.owed()


async def _is(count: Callable[[], Awaitable[int]], expected: int) -> bool:
    return await count() == expected


async def test_it_ends_on_sigterm_goes_behind_and_logs_no_secret(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    environ = environ_of(database_urls, heartbeat, tmp_path / "feed") | {"CHAPPE_NICENESS": "2"}
    async with worker(environ) as process:

        async def beats() -> bool:
            return heartbeat.exists()

        await until(beats)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + 2, 19)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0
    told = [json.loads(line) for line in err.decode().splitlines()]
    assert {"worker_started", "worker_ending"} <= {line["event"] for line in told}
    assert not [line for line in told if line["event"] == "work_failed"]
    assert all(secret not in err.decode() for secret in (PEPPERS_TEXT[2:20], AUDIT_KEYS_TEXT[2:20]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"CHAPPE_AUDIT_KEYS": ""}, "CHAPPE_AUDIT_KEYS"),
        ({"CHAPPE_AUDIT_KEYS": "1:c2VjcmV0"}, "32 bytes"),
        ({"CHAPPE_PORTAL_URL": ""}, "CHAPPE_PORTAL_URL"),
        ({"CHAPPE_NICENESS": "20"}, "CHAPPE_NICENESS"),
        ({"CHAPPE_KEY_PEPPERS": "1:c2VjcmV0"}, "at least 32 bytes"),
    ],
)
async def test_settings_that_cannot_work_stop_the_start_and_are_not_shown(
    database_urls: DatabaseUrls, tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    environ = environ_of(database_urls, tmp_path / "heartbeat", tmp_path / "feed") | change
    async with worker(environ) as process:
        _, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 1
    assert expected in err.decode() and "Traceback" not in err.decode() and "c2VjcmV0" not in err.decode()
