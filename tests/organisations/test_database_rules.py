"""The database keeps the rules by itself, whoever comes around the application or changes both sides at once."""

import asyncio
import re
from itertools import product
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_kernel.api_keys import KeyKind
from chappe_kernel.ids import TenantId, new_id
from chappe_store.session import Database, TenantScope
from chappe_tenants.api_keys.service import KeyOrder, create_key
from chappe_tenants.organisations.details import NEEDED_TO_VERIFY
from chappe_tenants.organisations.lifecycle import INITIAL, TRANSITIONS, Authority, Reason, TenantState
from chappe_tenants.organisations.service import change_state, create_organisation
from chappe_tenants.projects.service import create_project
from tests.control.world import PEPPERS

JURISDICTIONS = {"fr-par": "FR"}
S = TenantState


async def insert(database: Database, **columns: object) -> UUID:
    """As the operator's role, around every service."""
    values = {"id": new_id(), "name": "T", "state": "active", "currency": "EUR", "requests_per_minute": 60, **columns}
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    async with database.operator() as session:
        await session.execute(text(f"INSERT INTO tenant (allowed_regions, {names}) VALUES ('{{}}', {marks})"), values)
    return values["id"]  # type: ignore[return-value]


async def update(database: Database, tenant_id: UUID, **columns: object) -> None:
    changes = ", ".join(f"{name} = :{name}" for name in columns)
    async with database.operator() as session:
        await session.execute(text(f"UPDATE tenant SET {changes} WHERE id = :id"), {"id": tenant_id, **columns})


def details() -> dict[str, object]:
    return {name: "FR" if name == "country" else "a@b.example" for name in NEEDED_TO_VERIFY}


async def bring_to(database: Database, tenant_id: UUID, state: S) -> None:
    ways: dict[S, list[S]] = {S.ACTIVE: [], S.SUSPENDED: [S.SUSPENDED], S.CLOSED: [S.CLOSED]}
    for step in ways.get(state, []):
        await update(database, tenant_id, state=step)


async def test_the_transitions_are_those_of_the_code(database: Database) -> None:
    allowed = set()
    for start, to in product(S, S):
        if start is to:
            continue
        begins = start if start in INITIAL else S.ACTIVE
        tenant_id = await insert(database, state=begins, **details())
        await bring_to(database, tenant_id, start)
        try:
            await update(database, tenant_id, state=to)
        except DBAPIError as error:
            assert "cannot become" in str(error.orig)
        else:
            allowed.add((start, to))
    assert allowed == set(TRANSITIONS)


async def test_what_a_tenant_can_begin_as_is_what_the_code_says(database: Database) -> None:
    for state in S:
        if state in INITIAL:
            await insert(database, state=state, **details())
        else:
            with pytest.raises(DBAPIError, match="no tenant begins"):
                await insert(database, state=state)


async def test_the_columns_hold_the_codes_words(database: Database) -> None:
    async with database.operator() as session:
        for name, words in (("ck_tenant_state_reason", Reason), ("ck_tenant_state_by", Authority)):
            statement = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"
            definition = str(await session.scalar(text(statement), {"name": name}))
            assert set(re.findall(r"'(\w+)'", definition)) == set(words)


@pytest.mark.parametrize("missing", NEEDED_TO_VERIFY)
async def test_nobody_is_verified_without_their_details(database: Database, missing: str) -> None:
    tenant_id = await insert(database, state="applied", **{**details(), missing: None})
    with pytest.raises(DBAPIError, match="cannot be verified"):
        await update(database, tenant_id, state="verified")
    with pytest.raises(DBAPIError, match="cannot be verified"):
        await insert(database, state="verified", **{**details(), missing: None})


async def test_the_database_says_since_when(database: Database) -> None:
    tenant_id = await insert(database)
    async with database.operator() as session:
        read = text("SELECT state_changed_at, now() FROM tenant WHERE id = :id")
        began, _ = (await session.execute(read, {"id": tenant_id})).one()
        await session.execute(text("UPDATE tenant SET name = 'U' WHERE id = :id"), {"id": tenant_id})
        assert (await session.execute(read, {"id": tenant_id})).one()[0] == began
        await session.execute(text("UPDATE tenant SET state = 'suspended' WHERE id = :id"), {"id": tenant_id})
        since, now = (await session.execute(read, {"id": tenant_id})).one()
    assert since == now > began


async def test_no_tenant_is_above_itself(database: Database) -> None:
    top = await insert(database)
    middle = await insert(database, parent_id=top, relation="subsidiary")
    bottom = await insert(database, parent_id=middle, relation="subsidiary")
    for above in (middle, bottom):
        with pytest.raises(DBAPIError, match="above itself"):
            await update(database, top, parent_id=above, relation="subsidiary")
    own = new_id()
    with pytest.raises(DBAPIError, match="ck_tenant_parent"):
        await insert(database, id=own, parent_id=own, relation="subsidiary")


async def test_two_who_become_each_others_parent_at_once_do_not_both(database: Database) -> None:
    one, other = await insert(database), await insert(database)
    both = await asyncio.gather(
        update(database, one, parent_id=other, relation="subsidiary"),
        update(database, other, parent_id=one, relation="subsidiary"),
        return_exceptions=True,
    )
    assert [type(found) for found in both].count(type(None)) == 1, both


async def test_a_parent_comes_with_a_relation(database: Database) -> None:
    parent = await insert(database, is_reseller=True)
    for columns in ({"parent_id": parent}, {"relation": "customer"}, {"parent_id": parent, "relation": "friend"}):
        with pytest.raises(DBAPIError, match=r"ck_tenant_(parent|relation)"):
            await insert(database, **columns)


async def test_only_a_reseller_has_customers_and_stays_one_as_long(database: Database) -> None:
    parent = await insert(database)
    with pytest.raises(DBAPIError, match="no reseller"):
        await insert(database, parent_id=parent, relation="customer")
    await update(database, parent, is_reseller=True)
    customer = await insert(database, parent_id=parent, relation="customer")
    with pytest.raises(DBAPIError, match="still has customers"):
        await update(database, parent, is_reseller=False)
    await update(database, customer, parent_id=None, relation=None)
    await update(database, parent, is_reseller=False)


async def test_a_reseller_sees_its_own_customers_rows_and_nobody_elses(database: Database) -> None:
    reseller = TenantScope(TenantId(await insert(database, is_reseller=True)))
    other = await insert(database, is_reseller=True)
    customer = await insert(database, parent_id=reseller.tenant_id, relation="customer")
    await insert(database, parent_id=reseller.tenant_id, relation="subsidiary")
    await insert(database, parent_id=other, relation="customer")
    async with database.tenant(reseller) as session:
        assert set((await session.scalars(text("SELECT id FROM tenant"))).all()) == {reseller.tenant_id, customer}
        changed = await session.execute(text("UPDATE tenant SET name = 'U' RETURNING id"))
        assert set(changed.scalars()) == {reseller.tenant_id, customer}
    async with database.tenant(TenantScope(TenantId(customer))) as session:
        assert (await session.scalars(text("SELECT id FROM tenant"))).all() == [customer]


@pytest.mark.parametrize(
    "column", ["state", "state_by", "parent_id", "relation", "is_reseller", "plan", "reference", "contract_reference"]
)
async def test_tenants_cannot_write_what_the_operator_decides(database: Database, column: str) -> None:
    reseller = TenantScope(TenantId(await insert(database, is_reseller=True)))
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(reseller) as session:
            await session.execute(text(f"UPDATE tenant SET {column} = {column}"))
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(reseller) as session:
            await session.execute(text("DELETE FROM tenant"))


async def test_a_key_made_while_the_organisation_closes_does_not_outlive_it(database: Database) -> None:
    """Whoever comes second waits for the first, and then sees what it did."""
    for turn in range(6):
        scope = await with_project(database)
        closing, making = await asyncio.gather(
            close(database, scope), make_key(database, scope, delay_s=turn * 0.004), return_exceptions=True
        )
        assert closing is None, closing
        assert making is None or "is closed" in str(making), making
        async with database.operator() as session:
            count = "SELECT count(*) FROM api_key WHERE tenant_id = :id AND revoked_at IS NULL"
            assert await session.scalar(text(count), {"id": scope.tenant_id}) == 0


async def test_a_closed_organisation_gets_no_key(database: Database) -> None:
    scope = await with_project(database)
    await make_key(database, scope)
    await close(database, scope)
    with pytest.raises(DBAPIError, match="is closed"):
        await make_key(database, scope)


async def with_project(database: Database) -> TenantScope:
    async with database.operator() as session:
        scope = await create_organisation(session, name="Closing", allowed_regions=["fr-par"], requests_per_minute=60)
        await create_project(session, scope, name="default", regions=None, jurisdiction_of=JURISDICTIONS)
    return scope


async def close(database: Database, scope: TenantScope) -> None:
    async with database.operator() as session:
        await change_state(session, scope, S.CLOSED, Reason.REQUESTED, Authority.OPERATOR)


async def make_key(database: Database, scope: TenantScope, delay_s: float = 0) -> None:
    await asyncio.sleep(delay_s)
    async with database.tenant(scope) as session:
        project_id = await session.scalar(text("SELECT id FROM project"))
        await create_key(
            session,
            scope,
            project_id,
            KeyOrder("k", KeyKind.INFERENCE),
            peppers=PEPPERS,
            jurisdiction_of=JURISDICTIONS,
        )
