"""`chappe prices`, as somebody types it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.price_drafts.service import create_draft
from chappe_billing.prices.service import publish_price
from chappe_catalogue.listings.models import Listing
from chappe_kernel.ids import PRICE_DRAFT, PRICE_VERSION, encode_id
from chappe_kernel.rating import Price
from chappe_store.session import Database
from tests.conftest import DatabaseUrls
from tests.control.world import CHAT, World

Run = Callable[..., Awaitable[list[Any]]]
CHAPPE = Path(sys.executable).with_name("chappe")
DEARER = Price(70, 15, 210, 0)


@pytest.fixture
def run(database_urls: DatabaseUrls) -> Run:
    """What a command says, line by line; a complaint is a text."""

    async def call(*arguments: str) -> list[Any]:
        environ = {"PATH": os.environ["PATH"], "CHAPPE_DATABASE_URL": database_urls.app}
        process = await asyncio.create_subprocess_exec(
            str(CHAPPE), "prices", *arguments, stdout=PIPE, stderr=PIPE, env=environ, cwd="/"
        )
        out, err = await process.communicate()
        return err.decode().splitlines() if process.returncode else [json.loads(line) for line in out.splitlines()]

    return call


async def listing_id(database: Database) -> Any:
    async with database.operator() as session:
        return await session.scalar(select(Listing.id).where(Listing.name == CHAT))


async def test_a_draft_is_compared_simulated_published_and_withdrawn(
    world: World, database: Database, run: Run
) -> None:
    line = DraftLine(await listing_id(database), CHAT, "fr-par", "EUR", DEARER, None)
    async with database.operator() as session:
        made = await create_draft(session, title="Spring", tenant_id=None, lines=[line])
    draft = encode_id(PRICE_DRAFT, made.row.id)
    (difference,) = await run("diff", draft)
    assert [change["component"] for change in difference["changes"]] == ["input_nano_per_token"]
    assert "simulate this draft" in (await run("publish", draft))[-1]
    (simulated,) = await run("simulate", draft, "--month", "2026-10")
    assert simulated["month"] == "2026-10"
    (published,) = await run("publish", draft, "--starts-at", "2090-01-01T00:00Z")
    (version,) = published["price_versions"]
    (first, *_) = await run("list", "--model", CHAT, "--region", "fr-par")
    assert (first["id"], first["starts_at"]) == (version, "2090-01-01T00:00:00Z")
    (withdrawn,) = await run("withdraw", version, "--reason", "too early")
    assert withdrawn["withdrawn_for"] == "too early"


async def test_a_wrong_price_is_reverted(world: World, database: Database, run: Run) -> None:
    sold = await listing_id(database)
    async with database.operator() as session:
        wrong = await publish_price(
            session,
            listing_id=sold,
            region="fr-par",
            currency="EUR",
            price=DEARER,
            notice=timedelta(0),
        )
    version = encode_id(PRICE_VERSION, wrong)
    (right,) = await run("revert", version, "--reason", "a digit too many")
    assert (right["reverts"], right["reason"]) == (version, "a digit too many")
    assert right["price"]["per_million_tokens"]["input"] == "0.060000000"
    assert "not in force" in (await run("revert", version, "--reason", "again"))[-1]
    assert "prc_" in (await run("revert", "prc_nonsense", "--reason", "x"))[-1]
