"""What changes is in the log, in the same transaction, by whom and from where; what does not change is not."""

import json
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from chappe_billing.credit.service import give_welcome_credit
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.schemas import Seed, SeedKey, SeedPerson, SeedTenant
from chappe_control.seeding.service import create_tenant, plant_seed
from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import KeyId, TenantId, new_id
from chappe_store.audit_log.chain import Entry
from chappe_store.audit_log.origin import ActorKind, Origin, command_origin
from chappe_store.queries import renew_epoch
from chappe_store.session import Database, TenantScope
from chappe_tenants.api_keys.service import revoke_key
from chappe_tenants.members.service import Role, put_member
from tests.audit_log.conftest import Log
from tests.conftest import TESTS, DatabaseUrls, PostgresServer
from tests.control.world import CHAT, CREDENTIALS, MANIFEST, PEPPERS

PASSWORD = "correct horse battery staple"
SECRETS = [generate_key(kind) for kind in KeyKind]
SEED = Seed(
    tenant=SeedTenant(name="Alice", allowed_regions=("fr-par",), requests_per_minute=600),
    project="default",
    keys=tuple(SeedKey(kind.value, kind, secret) for kind, secret in zip(KeyKind, SECRETS, strict=True)),
    member=SeedPerson("Mia@Example.org", PASSWORD),
    operator=SeedPerson("ops@example.org", PASSWORD),
)


async def apply(log: Log, **changes: Any) -> None:
    async with log.database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST | changes)), CREDENTIALS)


async def plant(log: Log) -> TenantScope:
    async with log.database.operator() as session:
        return TenantScope(await plant_seed(session, SEED, peppers=PEPPERS, welcome_credit_nano=5))


def told(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.action, entry.noun) for entry in entries]


async def test_catalogue_and_seed_are_told_in_full_and_repeats_not_at_all(log: Log) -> None:
    await apply(log)
    scope = await plant(log)
    once = await log.entries()
    assert told(once) == [
        *[("created", "region")] * 2,
        *[("created", "region_credential")] * 2,
        *[("created", noun) for noun in ("publisher", "listing", "listing_region", "listing_region")],
        *[("created", "price_version")] * 2,
        *[("created", "deployment")] * 2,
        *[("created", noun) for noun in ("tenant", "quota", "project", "api_key", "api_key")],
        *[("created", noun) for noun in ("account", "member", "operator_user")],
        *[("created", "budget"), ("created", "ledger_transaction"), ("changed", "budget")],
    ]
    for _ in range(2):
        await apply(log)
        await plant(log)
    assert await log.entries() == once
    of_tenant = [entry.noun for entry in once if entry.tenant_id == scope.tenant_id]
    assert of_tenant == [
        *("tenant", "quota", "project", "api_key", "api_key", "member", "budget", "ledger_transaction", "budget")
    ]
    assert (await log.verify()).entries == len(once)


async def test_before_and_after_hold_the_fields_that_changed_and_no_more(log: Log) -> None:
    await apply(log)
    known = len(await log.entries())
    changed = [MANIFEST["deployments"][0] | {"replicas": 2}]
    await apply(log, deployments=changed, publishers=[{"name": "huggingface", "title": "HF"}])
    new = (await log.entries())[known:]
    fields = [(e.action, e.noun, json.loads(bytes(e.before)), json.loads(bytes(e.after))) for e in new]
    assert fields[0] == ("changed", "publisher", {"title": "Hugging Face"}, {"title": "HF"})
    assert fields[1][:2] == ("removed", "deployment") and fields[1][2]["replicas"] == 1 and fields[1][3] is None
    assert fields[2] == ("changed", "deployment", {"replicas": 1}, {"replicas": 2})
    assert [entry.subject for entry in new[1:]] == [f"de-fra/{CHAT}", f"fr-par/{CHAT}"]


async def test_secrets_hashes_and_digests_are_never_in_the_log(
    log: Log, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    await apply(log)
    scope = await plant(log)
    async with log.database.operator() as session:
        await put_member(session, scope, email="mia@example.org", password=PASSWORD + "!", role=Role.OWNER)
    last = (await log.entries())[-1]
    assert (last.action, last.noun, bytes(last.after)) == ("changed", "account", b'{"password_hash": "withheld"}')
    connection = await postgres.superuser(database_urls.name)
    try:
        written = await connection.fetchval("SELECT string_agg(row_to_json(e)::text, ' ') FROM audit_entry e")
        stored = await connection.fetch(
            "SELECT encode(digest, 'hex') FROM api_key UNION ALL SELECT encode(digest, 'hex') FROM region_credential "
            "UNION ALL SELECT password_hash FROM account UNION ALL SELECT password_hash FROM operator_user"
        )
    finally:
        await connection.close()
    marked = [*SECRETS, PASSWORD, *CREDENTIALS.values(), *(row[0] for row in stored)]
    assert len(marked) == 11 and "mia@example.org" in written
    for secret in marked:
        assert secret not in written
        assert secret.encode().hex() not in written
    assert "argon2" not in written


async def test_amounts_are_strings(log: Log) -> None:
    tenant_id = await make_tenant(log)
    async with log.database.operator() as session:
        await give_welcome_credit(session, tenant_id, 2**60 + 1, "EUR")
    funds = [json.loads(bytes(entry.after)) for entry in await log.entries() if entry.noun == "budget"]
    assert funds[-1] == {"funds_nano": str(2**60 + 1)}


async def test_key_is_created_and_revoked_by_a_key_at_an_address(log: Log) -> None:
    await apply(log)
    origin = Origin(ActorKind.MANAGEMENT_KEY, str(new_id()), "192.0.2.7", new_id())
    async with log.database.operator(origin) as session:
        tenant_id, _ = await create_tenant(
            session,
            name="Bob",
            allowed_regions=(),
            requests_per_minute=60,
            currency="EUR",
            peppers=PEPPERS,
            welcome_credit_nano=0,
        )
    keys = [entry for entry in await log.entries() if entry.noun == "api_key"]
    scope = TenantScope(tenant_id)
    for _ in range(2):  # The second time there is nothing left to revoke.
        async with log.database.tenant(scope, origin) as session:
            await revoke_key(session, scope, KeyId(keys[0].subject))  # type: ignore[arg-type]  # the column takes text
    *_, revoked = await log.entries()
    assert (revoked.action, revoked.subject, revoked.tenant_id) == ("changed", keys[0].subject, tenant_id)
    assert (revoked.actor_kind, revoked.actor) == (origin.kind, origin.actor)
    assert (revoked.address, revoked.request_id) == (origin.address, origin.request_id)
    assert json.loads(bytes(revoked.before)) == {"revoked_at": None}


async def test_who_does_not_say_who_they_are_changes_nothing(log: Log, database_urls: DatabaseUrls) -> None:
    anonymous = Database(database_urls.app)
    try:
        with pytest.raises(DBAPIError, match="nobody is named who changes publisher"):
            await Log(anonymous).change("INSERT INTO publisher (id, name, title) VALUES (uuidv7(), 'p', 'P')")
        async with anonymous.operator() as session:
            assert await session.scalar(text("SELECT count(*) FROM publisher")) == 0
        # A transaction before it, on the same connection, was somebody; that does not last.
        async with anonymous.operator(TESTS) as session:
            await session.execute(text("SELECT 1"))
        with pytest.raises(DBAPIError, match="nobody is named"):
            await Log(anonymous).change("UPDATE instance SET epoch = uuidv7()")
    finally:
        await anonymous.close()
    assert await log.entries() == []


async def test_somebody_with_the_database_itself_is_named_too(
    log: Log, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("UPDATE instance SET epoch = uuidv7()")
    await connection.close()
    (entry,) = await log.entries()
    assert (entry.actor_kind, entry.actor, entry.noun, entry.request_id) == ("database", "postgres", "instance", None)


async def test_change_and_entry_stand_or_fall_together(
    log: Log, postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with log.database.operator() as session:
            await renew_epoch(session)
            raise ZeroDivisionError
    assert await log.entries() == []
    # A crash after the change and before the commit: the server ends the connection.
    connection = await postgres.superuser(database_urls.name)
    epoch = await connection.fetchval("SELECT epoch FROM instance")
    with pytest.raises(DBAPIError):
        async with log.database.operator() as session:
            await renew_epoch(session)
            process = await session.scalar(text("SELECT pg_backend_pid()"))
            await connection.execute("SELECT pg_terminate_backend($1)", process)
            await session.execute(text("SELECT 1"))
    assert await connection.fetchval("SELECT epoch FROM instance") == epoch
    assert await log.entries() == []
    # And the other way round: where the entry cannot be written, the change is not made.
    await connection.execute("ALTER TABLE audit_entry ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
    with pytest.raises(DBAPIError, match="full_disk"):
        await log.change("UPDATE instance SET epoch = uuidv7()")
    assert await connection.fetchval("SELECT epoch FROM instance") == epoch
    await connection.close()


async def test_another_tenants_and_the_operators_entries_are_invisible(log: Log) -> None:
    mine, other = await make_tenant(log), await make_tenant(log)
    await log.change("INSERT INTO publisher (id, name, title) VALUES (uuidv7(), 'p', 'P')")
    for tenant_id in (mine, other):
        async with log.database.tenant(TenantScope(tenant_id)) as session:
            seen = set((await session.scalars(text("SELECT tenant_id FROM audit_entry"))).all())
            assert seen == {tenant_id}
    async with log.database.tenant(TenantScope(TenantId(new_id()))) as session:
        assert await session.scalar(text("SELECT count(*) FROM audit_entry")) == 0
    with pytest.raises(DBAPIError, match="permission denied"):
        async with log.database.ingest() as session:
            await session.execute(text("SELECT 1 FROM audit_entry"))


async def test_no_role_can_write_or_change_an_entry(signed: Log) -> None:
    statements = (
        "INSERT INTO audit_entry SELECT * FROM audit_entry",
        "UPDATE audit_entry SET actor = 'x'",
        "DELETE FROM audit_entry",
        "UPDATE audit_checkpoint SET made_at = now()",
        "DELETE FROM audit_checkpoint",
        "SELECT append_audit_entry(NULL, '{}', 'created', 'x', 'x', NULL, NULL)",
    )
    for statement in statements:
        for transaction in (signed.database.operator, signed.database.ingest):
            with pytest.raises(DBAPIError, match="permission denied"):
                async with transaction() as session:
                    await session.execute(text(statement))


def test_a_command_is_the_systems_user_at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    origin = command_origin()
    assert origin.kind == ActorKind.COMMAND and origin.actor != "somebody-else" and origin.address


async def make_tenant(log: Log) -> TenantId:
    tenant_id = TenantId(new_id())
    await log.change(
        "INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute) "
        f"VALUES ('{tenant_id}', 'T', 'active', 'EUR', '{{}}', 60)"
    )
    return tenant_id
