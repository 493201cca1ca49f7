"""A worker that is killed in the middle of a batch has applied all of it or nothing; sent again it is applied once."""

import asyncio
import random
import sys
from pathlib import Path

import msgspec

from chappe_billing.audit.service import verify_ledger
from chappe_kernel.rating import Counts
from chappe_kernel.wire.control import UsageBatch
from tests.billing.conftest import Customer, MakeCustomer, Market
from tests.conftest import DatabaseUrls

WORKER = """
import asyncio, sys
from pathlib import Path
import msgspec
from chappe_billing.usage.service import ingest
from chappe_kernel.wire.control import UsageBatch
from chappe_store.session import Database

async def main():
    database = Database(sys.argv[1])
    for batch in msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[UsageBatch]):
        async with database.ingest() as session:
            await ingest(session, region="fr-par", batch=batch)
        print("one", flush=True)

asyncio.run(main())
"""


async def test_a_worker_killed_in_mid_batch_leaves_whole_batches(
    market: Market, make_customer: MakeCustomer, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    dice = random.Random(5)  # noqa: S311 -- a test's dice
    customers: list[Customer] = [await make_customer() for _ in range(3)]
    grants = [await market.ask(customer, 10_000_000) for customer in customers]
    events = [
        market.event(customers[number % 3], grants[number % 3].grant_id, counts=Counts(number, 0, 2))
        for number in range(600)
    ]
    batches = [UsageBatch("gw-1", tuple(events[at : at + 60])) for at in range(0, 600, 60)]
    file = tmp_path / "batches.json"
    file.write_bytes(msgspec.json.encode(batches))
    posted = 0
    for _ in range(4):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, database_urls.app, str(file), stdout=asyncio.subprocess.PIPE
        )
        assert worker.stdout is not None
        for _ in range(dice.randint(1, 4)):
            await worker.stdout.readline()
        await asyncio.sleep(dice.uniform(0, 0.05))
        worker.kill()
        await worker.wait()
        posted = int(await market.scalar("SELECT count(*) FROM usage_event"))
        assert posted % 60 == 0
    assert posted > 0
    receipts = [await market.ingest(*batch.events) for batch in batches]
    assert sum(receipt.posted for receipt in receipts) == 600 - posted
    assert await market.scalar("SELECT count(*) FROM usage_event") == 600
    left = sum([(await market.balance(customer)).available_nano for customer in customers])
    assert 3 * 10_000_000_000 - left == sum(event.amount_nano for event in events)
    async with market.database.audit() as session:
        assert await verify_ledger(session) is None
