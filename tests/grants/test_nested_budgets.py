"""Monthly budgets inside each other, spent through four gateway processes at once: none of them is ever exceeded."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from chappe_control.seeding.schemas import Seed, SeedKey, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import new_id
from tests.control.world import CREDENTIALS, PEPPERS
from tests.grants.world import Answer, Buyer, Fleet, exact_hold_nano

pytestmark = pytest.mark.alone

MAX_TOKENS = 40
HOLD_NANO = exact_hold_nano(MAX_TOKENS)
KEYS_NANO, PROJECTS_NANO, TENANTS_NANO = 5 * HOLD_NANO, 8 * HOLD_NANO, 12 * HOLD_NANO
REQUESTS = 60
"""Of each key."""
FINAL = (200, 402)


async def three_keys(fleet: Fleet) -> tuple[Buyer, dict[str, str], dict[str, UUID]]:
    """One with a budget of its own and one without, in a project with a budget; one in another project; all of a tenant
    with a budget, and with funds for a hundred times as much. Secrets and ids by name."""
    secrets = {name: generate_key(KeyKind.INFERENCE) for name in ("capped", "free", "elsewhere")}
    tenant = SeedTenant(name=f"Nested {new_id()}", allowed_regions=tuple(CREDENTIALS), requests_per_minute=1_000_000)
    seed = Seed(tenant, "inner", tuple(SeedKey(name, KeyKind.INFERENCE, text) for name, text in secrets.items()))
    async with fleet.database.operator() as session:
        tenant_id = await plant_seed(session, seed, peppers=PEPPERS, welcome_credit_nano=100 * TENANTS_NANO)
    rows = await fleet.sql("SELECT name, id, project_id FROM api_key WHERE tenant_id = $1", tenant_id)
    ids, inner, outer = {name: key_id for name, key_id, _ in rows}, rows[0][2], new_id()
    await fleet.sql("INSERT INTO project (tenant_id, id, name) VALUES ($1, $2, 'outer')", tenant_id, outer)
    await fleet.sql("UPDATE api_key SET project_id = $2 WHERE id = $1", ids["elsewhere"], outer)
    for level, project_id, key_id, amount_nano in (
        ("tenant", None, None, TENANTS_NANO),
        ("project", inner, None, PROJECTS_NANO),
        ("key", None, ids["capped"], KEYS_NANO),
    ):
        await fleet.sql(
            "INSERT INTO quota (tenant_id, id, level, project_id, key_id, monthly_budget_nano) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            tenant_id,
            new_id(),
            level,
            project_id,
            key_id,
            amount_nano,
        )
    return Buyer(tenant_id, secrets["capped"], 100 * TENANTS_NANO), secrets, ids


async def spent_by(fleet: Fleet, buyer: Buyer, ids: dict[str, UUID]) -> Counter[str]:
    rows = await fleet.sql("SELECT key_id, amount_nano FROM usage_event WHERE tenant_id = $1", buyer.tenant_id)
    names = {key_id: name for name, key_id in ids.items()}
    spent: Counter[str] = Counter()
    for key_id, amount_nano in rows:
        spent[names[key_id]] += amount_nano
    return spent


@pytest.mark.parametrize("tokens", [MAX_TOKENS, 7])
async def test_no_level_is_exceeded_and_each_is_used_up(fleet: Fleet, tokens: int) -> None:
    script = fleet.engine.script
    script.tokens, script.delay_s = tokens, 0.01
    try:
        buyer, secrets, ids = await three_keys(fleet)
        asked = [
            fleet.ask(fleet.names[number % 4], secret, max_tokens=MAX_TOKENS)
            for number in range(REQUESTS)
            for secret in secrets.values()
        ]
        answers: list[Answer] = await asyncio.gather(*asked)
        found = Counter((answer.status, answer.code) for answer in answers)
        assert {status for status, _ in found} <= {200, 402, 503}, found
        assert {code for status, code in found if status == 402} <= {"monthly_budget_reached"}, found
        served = sum(answer.status == 200 for answer in answers)
        # Whoever is told to try again does: the narrowest first, so that each level is used up.
        for name in ("capped", "free", "elsewhere"):
            while True:
                last = await fleet.ask_until(fleet.names[served % 4], secrets[name], *FINAL, max_tokens=MAX_TOKENS)
                if last.status != 200:
                    break
                served += 1
    finally:
        script.tokens, script.delay_s = 8, 0.0
    await fleet.until_posted(buyer, served)
    spent = await spent_by(fleet, buyer, ids)
    assert spent["capped"] <= KEYS_NANO
    assert spent["capped"] + spent["free"] <= PROJECTS_NANO
    total = spent.total()
    # The widest is used up to less than one more hold; the others, or it, stopped those within them.
    assert 0 <= TENANTS_NANO - total < HOLD_NANO
    assert sum(event[3] for event in await fleet.until_posted(buyer, served)) == 0, "nothing was written off"
    await fleet.verify()
