"""A key, a credential and a password exist only with those who hold them: in no log and in no table."""

import json
from typing import Any

import pytest
import structlog

from chappe_control.seeding.schemas import Seed, SeedPerson, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.process import prepare_process
from chappe_store.session import Database
from tests.control.world import CREDENTIALS, PEPPERS, World

PASSWORD = "correct horse battery staple"


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Any:
    """Logging as in production, onto the captured standard error."""
    before = structlog.get_config()
    prepare_process("test")
    yield lambda: capsys.readouterr().err
    structlog.configure(**before)


async def test_no_secret_in_any_table_or_log(logged: Any, world: World, database: Database, owner_sql: Any) -> None:
    made = await world.make_key(world.alice)
    guessed = generate_key(KeyKind.MANAGEMENT)
    await world.http.get("/api/v1/balance", headers={"authorization": f"Bearer {guessed}"})
    await world.http.get("/api/v1/balance", headers={"authorization": f"Basic {guessed}"})
    await world.api("POST", "/projects", json={"name": made["secret"][:50] + "\0"})
    await world.paris.use(made["secret"], await world.paris.lease(world.alice.id))
    person = SeedPerson("Mia@Example.org", PASSWORD)
    people = Seed(SeedTenant("People", ("fr-par",), 1), "default", member=person, operator=person)
    async with database.operator() as session:
        await plant_seed(session, people, peppers=PEPPERS, welcome_credit_nano=0)
    await owner_sql("DROP TABLE usage_hour CASCADE")
    assert (await world.api("GET", "/usage/summary")).status_code == 500
    text = await _everything(owner_sql)
    assert "mia@example.org" in text and "$argon2id$" in text, "the search sees what is there"
    log = logged()
    assert "internal_error" in log, "the log was captured"
    secrets = [*world.alice.keys.values(), made["secret"], guessed, PASSWORD, *CREDENTIALS.values()]
    for secret in secrets:
        for trace in (secret, secret.encode().hex(), secret[8:]):
            assert trace not in text
            assert trace not in log


async def _everything(owner_sql: Any) -> str:
    tables = await owner_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await owner_sql(f'SELECT row_to_json(t)::text FROM "{table[0]}" t') for table in tables]
    return json.dumps([row[0] for part in rows for row in part], ensure_ascii=False)
