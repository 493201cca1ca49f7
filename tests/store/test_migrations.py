"""The migrations build what the models describe, each on a filled database, once."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from chappe_kernel.errors import Conflict, Invalid
from chappe_store.base import load_models
from chappe_store.migrate import alembic_config, check, migrate, newest_revision
from tests.conftest import DatabaseUrls, PostgresServer

# What each revision leaves behind for the next one: rows in the tables that it made. A new migration gets an entry
# here, and so the one after it runs on a filled database.
FILL = {
    "0001": "INSERT INTO outbox (id, topic, payload) VALUES (uuidv7(), 'test', '{}')",
    "0002": """
        INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute)
            VALUES ('00000000-0000-7000-8000-000000000001', 'T', 'active', 'EUR', '{}', 60);
        INSERT INTO project (tenant_id, id, name)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000002', 'P');
        INSERT INTO region (name, jurisdiction, gateway_url, position) VALUES ('fr-par', 'FR', 'http://x', 0);
        INSERT INTO publisher (id, name, title) VALUES ('00000000-0000-7000-8000-000000000003', 'p', 'P');
        INSERT INTO listing (id, name, publisher_id, task, currency, context_tokens, template_tokens,
                             default_output_tokens, max_output_tokens)
            VALUES ('00000000-0000-7000-8000-000000000004', 'l', '00000000-0000-7000-8000-000000000003', 'chat',
                    'EUR', 1, 0, 1, 1);
        INSERT INTO member (tenant_id, id, email, role, password_hash)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000005', 'mia@example.org',
                    'owner', '$argon2id$x');
        INSERT INTO operator_user (id, email, role, password_hash)
            VALUES ('00000000-0000-7000-8000-000000000006', 'ops@example.org', 'administrator', '$argon2id$x');
    """,
    "0003": """
        INSERT INTO budget (tenant_id, currency) VALUES ('00000000-0000-7000-8000-000000000001', 'EUR');
        INSERT INTO price_version (id, listing_id, region, currency, starts_at, input_nano_per_token,
                                   cached_input_nano_per_token, output_nano_per_token, request_nano)
            VALUES (uuidv7(), '00000000-0000-7000-8000-000000000004', 'fr-par', 'EUR', now(), 1, 1, 1, 1);
        INSERT INTO usage_event (request_id, tenant_id, project_id, key_id, grant_id, region, gateway, listing_id,
                                 price_version_id, outcome, prompt_tokens, cached_tokens, completion_tokens,
                                 amount_nano, granted_nano, written_off_nano, hold_nano, started_at, finished_at)
            VALUES (uuidv7(), '00000000-0000-7000-8000-000000000001', uuidv7(), uuidv7(), uuidv7(), 'fr-par', 'gw-1',
                    '00000000-0000-7000-8000-000000000004', uuidv7(), 'failed', 0, 0, 0, 0, 0, 0, 0, now(), now());
        INSERT INTO usage_hour SELECT '00000000-0000-7000-8000-000000000001', hour, uuidv7(), uuidv7(),
                                      '00000000-0000-7000-8000-000000000004', 'fr-par', 1, 2, 1, 4, 5, 6
            FROM unnest(ARRAY['2026-10-31 23:00Z', '2026-11-01 00:00Z', '2026-11-01 01:00Z']::timestamptz[]) hour;
    """,
    "0004": """
        INSERT INTO member_session (tenant_id, id, member_id, digest, expires_at)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000007',
                    '00000000-0000-7000-8000-000000000005', sha256('m'), now() + interval '1 day');
        INSERT INTO operator_session (id, user_id, digest, expires_at)
            VALUES ('00000000-0000-7000-8000-000000000008', '00000000-0000-7000-8000-000000000006', sha256('o'),
                    now() + interval '1 day');
    """,
    "0005": """
        INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest, purpose)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000009',
                    '00000000-0000-7000-8000-000000000002', 'inference', 'Playground', 'ck_i', 1, sha256('k'),
                    'playground');
        INSERT INTO browser_token (tenant_id, id, pepper_version, digest, key_id, session_id, expires_at)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 1, sha256('b'),
                    '00000000-0000-7000-8000-000000000009', '00000000-0000-7000-8000-000000000007',
                    now() + interval '10 minutes');
    """,
    "0006": """
        INSERT INTO gateway_heartbeat (region, gateway, snapshot_version, healthy_deployments, loads)
            VALUES ('fr-par', 'gw-1', 'v', '{}', '{"l": 3}');
    """,
    "0007": """
        INSERT INTO usage_hour SELECT '00000000-0000-7000-8000-000000000001', '2026-11-01 02:00Z', uuidv7(), uuidv7(),
                                      '00000000-0000-7000-8000-000000000004', 'fr-par', 1, 2, 1, 4, 5, 6;
    """,
    "0008": """
        UPDATE tenant SET name = 'U';
        INSERT INTO tenant (id, parent_id, name, state, currency, allowed_regions, requests_per_minute)
            SELECT uuidv7(), id, 'Daughter', 'active', 'EUR', '{}', 60 FROM tenant;
    """,
    "0013": """
        INSERT INTO plan (name, title) VALUES ('large', 'Large');
        INSERT INTO plan_quota (id, plan, requests_per_minute) VALUES (uuidv7(), 'large', 600);
        INSERT INTO quota (tenant_id, id, level, project_id, monthly_budget_nano, alert_percents)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000010', 'project',
                    '00000000-0000-7000-8000-000000000002', 1000, '{80}');
        INSERT INTO quota_raise (tenant_id, id, requests_per_minute, reason, ends_at)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 100, 'launch', now() + interval '1 day');
        INSERT INTO budget_alert (tenant_id, quota_id, month, percent, budget_nano, spent_nano)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000010',
                    '2026-11-01 00:00Z', 80, 1000, 800);
    """,
    "0015": """
        INSERT INTO operator_token (id, user_id, name, role, prefix, pepper_version, digest, expires_at)
            VALUES (uuidv7(), '00000000-0000-7000-8000-000000000006', 'billing export', 'finance', 'co_abcd', 1,
                    sha256('t'), now() + interval '1 day');
        INSERT INTO operator_idempotency_record (user_id, route, key, body_digest)
            VALUES ('00000000-0000-7000-8000-000000000006', 'POST /x', 'k', sha256('b'));
    """,
    "0014": """
        INSERT INTO mail_link (id, purpose, email, organisation, digest, expires_at)
            VALUES (uuidv7(), 'sign_up', 'new@example.org', 'N', sha256('l'), now() + interval '1 day');
    """,
    "0009": """
        INSERT INTO invitation (tenant_id, id, email, role, digest, expires_at)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 'noor@example.org', 'viewer', sha256('i'),
                    now() + interval '7 days');
    """,
    "0010": "UPDATE tenant SET state = 'suspended', state_reason = 'unpaid' WHERE relation = 'subsidiary'",
    "0012": "UPDATE tenant SET allowed_regions = '{FR}'",
    "0023": "UPDATE tenant SET answers_kept_for_s = 3600",
    "0029": """
        UPDATE tenant SET content_kept_for_s = 3600;
        INSERT INTO price_version (id, listing_id, region, currency, starts_at, input_nano_per_token,
                                   cached_input_nano_per_token, output_nano_per_token, request_nano, for_batches,
                                   discount_basis_points)
            VALUES (uuidv7(), '00000000-0000-7000-8000-000000000004', 'fr-par', 'EUR', now(), 1, 1, 1, 1, true, 5000);
    """,
    "0030": "UPDATE legal_entity SET payments = 'stripe'",
    "0036": """
        INSERT INTO payment_cash (tenant_id, service_id, kind, currency, net_minor, counted_minor)
            VALUES ('00000000-0000-7000-8000-000000000001', 'ccsbtxn_1', 'funded', 'EUR', 100, 100);
    """,
    "0034": """
        INSERT INTO alert_settings (tenant_id, emails)
            VALUES ('00000000-0000-7000-8000-000000000001', '{a@example.org}');
        INSERT INTO alert (tenant_id, id, kind, subject, figures)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 'balance.low', 'amount', '{}');
        INSERT INTO payment_failure (tenant_id, id, amount_nano, currency, reason)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 1, 'EUR', 'card_declined');
        INSERT INTO webhook_endpoint (tenant_id, id, url, description, kinds, secret)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000020',
                    'https://hooks.example.org/', '', '{balance.low}', 's');
        INSERT INTO webhook_event (tenant_id, id, kind, body)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000021', 'test', '{}');
        INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_id)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000022',
                    '00000000-0000-7000-8000-000000000020', '00000000-0000-7000-8000-000000000021');
        INSERT INTO webhook_attempt (tenant_id, delivery_id, attempt, status, duration_ms)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000022', 1, 204, 12);
        INSERT INTO dunning_policy (legal_entity_id, enabled, notice_days, retry_days, grace_days)
            VALUES ('00000000-0000-7000-8000-000000000000', true, '{1}', '{}', 7);
        INSERT INTO dunning_pause (tenant_id, id, reason, until)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 'promised', now() + interval '1 day');
        INSERT INTO dunning_step (tenant_id, invoice_id, kind, level, open_nano, currency, number, due_on)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 'notice', 1, 1, 'EUR', 'F-1', '2026-12-01');
        INSERT INTO dunning_suspension (tenant_id, id, invoice_id)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), uuidv7());
    """,
    "0035": """
        INSERT INTO usage_price_day (tenant_id, day, project_id, price_version_id, requests, prompt_tokens,
                                     cached_tokens, completion_tokens, seconds, images, amount_nano, written_off_nano)
            VALUES ('00000000-0000-7000-8000-000000000001', '2026-11-01', uuidv7(), uuidv7(), 1, 1, 0, 1, 0, 0, 2, 0);
        INSERT INTO invoice_open SELECT id, tenant_id, due_on, 0 FROM invoice WHERE kind = 'invoice'
            ON CONFLICT DO NOTHING;
    """,
    "0037": """
        INSERT INTO vat_rate_withdrawal (rate_id) SELECT id FROM vat_rate WHERE starts_on = DATE '2027-01-01';
        UPDATE legal_entity SET payments = 'external';
        INSERT INTO invoice_letter (tenant_id, invoice_id, letters) SELECT tenant_id, id, 1 FROM invoice;
    """,
    "0032": """
        INSERT INTO vat_rate (id, country, starts_on, rate_bp, source)
            VALUES (uuidv7(), 'FR', DATE '2027-01-01', 2100, 'a law');
        INSERT INTO entity_tax (legal_entity_id, one_stop_shop)
            VALUES ('00000000-0000-7000-8000-000000000000', true);
        INSERT INTO tax_ruling (tenant_id, id, starts_on, category, rate_bp, reason)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), DATE '2027-01-01', 'S', 850, 'overseas');
        INSERT INTO vat_answer (tenant_id, id, vat_number, outcome, source, consultation_number)
            VALUES ('00000000-0000-7000-8000-000000000001', uuidv7(), 'DE123456789', 'confirmed', 'vies', 'WAPI');
        INSERT INTO vat_check (tenant_id, vat_number)
            VALUES ('00000000-0000-7000-8000-000000000001', 'DE123456789');
        INSERT INTO invoice_document (tenant_id, invoice_id, kind, content, sha256, renderer, keep_until)
            SELECT tenant_id, id, 'xml', 'x', sha256('x'), '1', DATE '2037-01-01' FROM invoice;
        INSERT INTO document_refusal (invoice_id, renderer, findings) SELECT id, '1', '{BR-CO-15}' FROM invoice;
    """,
    "0033": """
        INSERT INTO payment_customer (tenant_id, legal_entity_id, service_id)
            SELECT id, legal_entity_id, 'cus_1' FROM tenant WHERE id = '00000000-0000-7000-8000-000000000001';
        INSERT INTO payment_method (tenant_id, service_id, kind, label, is_default)
            VALUES ('00000000-0000-7000-8000-000000000001', 'pm_1', 'card', 'Visa', true);
        INSERT INTO payment (tenant_id, id, legal_entity_id, purpose, method, currency, net_nano, tax_nano, gross_minor,
                             treatment)
            SELECT tenant_id, '00000000-0000-7000-8000-0000000000e1', legal_entity_id, 'top_up', 'card', 'EUR',
                   10000000000, 2000000000, 1200, '{"category": "S", "rate_bp": 2000}' FROM payment_customer;
        INSERT INTO payment_call (tenant_id, id, legal_entity_id, kind, parameters, payment_id)
            SELECT tenant_id, '00000000-0000-7000-8000-0000000000e2', legal_entity_id, 'checkout', '{}', id
            FROM payment;
        INSERT INTO payment_call_attempt (tenant_id, call_id, attempt, outcome)
            SELECT tenant_id, id, 1, 'later' FROM payment_call;
        INSERT INTO auto_top_up (tenant_id, is_on, below_nano, net_nano, most_per_month)
            VALUES ('00000000-0000-7000-8000-000000000001', true, 1, 1, 1);
        INSERT INTO payment_event (id, kind, happened_at, effect)
            VALUES ('evt_1', 'charge.succeeded', now(), 'ignored');
        INSERT INTO payment_event_look (seen_until) VALUES (now());
        INSERT INTO payment_quarantine (id, service_id, reason, currency, amount_minor)
            VALUES (uuidv7(), 'pi_1', 'unknown_payment', 'EUR', 100);
    """,
    "0031": """
        INSERT INTO billing_profile (tenant_id, purchase_order, buyer_reference, invoice_email)
            VALUES ('00000000-0000-7000-8000-000000000001', 'PO-4711', '04011000-1234512345-06', 'ap@example.org');
        INSERT INTO invoice_run (id, legal_entity_id, month, cut_off_at)
            VALUES ('00000000-0000-7000-8000-00000000001a', '00000000-0000-7000-8000-000000000000', '2026-10-01',
                    '2026-11-01 00:00Z');
        INSERT INTO invoice_run_tenant (run_id, tenant_id)
            VALUES ('00000000-0000-7000-8000-00000000001a', '00000000-0000-7000-8000-000000000001');
        INSERT INTO journal_account VALUES ('00000000-0000-7000-8000-000000000000', 'revenue', '4400');
        INSERT INTO invoice_counter VALUES ('00000000-0000-7000-8000-000000000000', 'INV-2026', 1);
        INSERT INTO invoice (id, kind, legal_entity_id, tenant_id, currency, minor_digits, series, ordinal, number,
                             issued_on, cut_off_at, net_minor, tax_minor, gross_minor, content)
            VALUES ('00000000-0000-7000-8000-00000000001b', 'invoice', '00000000-0000-7000-8000-000000000000',
                    '00000000-0000-7000-8000-000000000001', 'EUR', 2, 'INV-2026', 1, 'INV-2026-000001', '2026-11-01',
                    '2026-11-01 00:00Z', 100, 20, 120, '{}');
        INSERT INTO invoice_cut (id, tenant_id, cut_off_at, charged_nano)
            VALUES ('00000000-0000-7000-8000-00000000001c', '00000000-0000-7000-8000-000000000001',
                    '2026-11-01 00:00Z', 1000000000);
        INSERT INTO invoice_part (invoice_id, tenant_id, cut_id, charged_nano, rounding_nano, lines_minor, gifts_minor,
                                  advances_minor, net_minor, tax_minor, gross_minor)
            VALUES ('00000000-0000-7000-8000-00000000001b', '00000000-0000-7000-8000-000000000001',
                    '00000000-0000-7000-8000-00000000001c', 1000000000, 0, 100, 0, 0, 100, 20, 120);
    """,
    "0011": """
        INSERT INTO service_account (tenant_id, id, project_id, name, scopes)
            VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-00000000000a',
                    '00000000-0000-7000-8000-000000000002', 'nightly export', '{inference}');
        UPDATE api_key SET networks = '{192.0.2.0/24}', expires_at = now() + interval '1 day',
            service_account_id = '00000000-0000-7000-8000-00000000000a';
        UPDATE project SET archived_at = now();
    """,
    "0017": """
        INSERT INTO price_version (id, listing_id, region, tenant_id, currency, starts_at, input_nano_per_token,
                                   cached_input_nano_per_token, output_nano_per_token, request_nano)
            VALUES ('00000000-0000-7000-8000-00000000000b', '00000000-0000-7000-8000-000000000004', 'fr-par',
                    '00000000-0000-7000-8000-000000000001', 'EUR', now() + interval '1 day', 1, 1, 1, 1);
        INSERT INTO price_withdrawal (price_version_id, tenant_id, reason)
            SELECT id, tenant_id, 'mistaken' FROM price_version WHERE tenant_id IS NOT NULL;
        INSERT INTO price_draft (id, title) VALUES ('00000000-0000-7000-8000-00000000000c', 'Prices');
        INSERT INTO price_draft_line (draft_id, listing_id, region, discount_basis_points)
            VALUES ('00000000-0000-7000-8000-00000000000c', '00000000-0000-7000-8000-000000000004', 'fr-par', 100);
        INSERT INTO contract_term (id, tenant_id, kind, first_month, amount_nano)
            VALUES (uuidv7(), '00000000-0000-7000-8000-000000000001', 'minimum', '2026-10-01', 1);
        INSERT INTO month_cut_off (tenant_id, month, used_nano)
            VALUES ('00000000-0000-7000-8000-000000000001', '2026-10-01', 0);
    """,
    "0016": """
        INSERT INTO usage_discrepancy (id, request_id, digest, tenant_id, region, gateway, kind, outcome, prompt_tokens,
                                       cached_tokens, completion_tokens, amount_nano)
            VALUES (uuidv7(), uuidv7(), '', '00000000-0000-7000-8000-000000000001', 'fr-par', 'gw-1', 'later_record',
                    'failed', 0, 0, 0, 0);
    """,
    "0018": """
        INSERT INTO legal_entity (id, name, currency, country)
            VALUES ('00000000-0000-7000-8000-00000000000b', 'Chappe GmbH', 'EUR', 'DE');
        UPDATE listing SET publisher_share_bp = 7000;
    """,
    "0020": "UPDATE usage_hour SET requests = requests + 1",
    "0021": """
        INSERT INTO rated_usage_entry (sequence, position, tenant_id, request_id, kind, currency, records, amount_nano,
                                       posted_at)
            SELECT 1, 0, '00000000-0000-7000-8000-000000000001', id, 'usage', 'EUR', 1, 0, now()
            FROM rated_usage_waiting WHERE is_event;
        INSERT INTO rated_usage_batch (sequence, epoch, format, records, records_before, size_bytes, digest, totals,
                                       running, chain)
            SELECT 1, epoch, 1, 1, 0, 1, sha256('1'), '[]', '[]', sha256('c') FROM instance;
        INSERT INTO rated_usage_receipt (id, sequence, kind) VALUES (uuidv7(), 1, 'acknowledged');
    """,
    "0022": "UPDATE instance SET lends_from = now()",
    "0027": "UPDATE tenant SET share = 3; UPDATE plan SET share = 2",
    "0026": """
        INSERT INTO usage_event (request_id, tenant_id, project_id, key_id, grant_id, region, gateway, listing_id,
                                 price_version_id, outcome, prompt_tokens, cached_tokens, completion_tokens,
                                 amount_nano, granted_nano, written_off_nano, hold_nano, started_at, finished_at)
            VALUES (uuidv7(), '00000000-0000-7000-8000-000000000001', uuidv7(), uuidv7(), uuidv7(), 'fr-par', 'gw-1',
                    '00000000-0000-7000-8000-000000000004', uuidv7(), 'failed', 0, 0, 0, 0, 0, 0, 0, now(), now());
    """,
    "0025": """
        BEGIN;
        INSERT INTO ledger_account (id, kind, currency) VALUES
            ('00000000-0000-7000-8000-0000000000f1', 'suspense', 'EUR'),
            ('00000000-0000-7000-8000-0000000000f2', 'payment_clearing', 'EUR') ON CONFLICT DO NOTHING;
        INSERT INTO ledger_transaction (id, kind, currency, reference)
            VALUES ('00000000-0000-7000-8000-0000000000f3', 'suspense', 'EUR', 'bank 1');
        INSERT INTO ledger_entry (transaction_id, line, account_id, currency, amount_nano)
            SELECT '00000000-0000-7000-8000-0000000000f3', 1, id, 'EUR', 7 FROM ledger_account WHERE kind = 'suspense';
        INSERT INTO ledger_entry (transaction_id, line, account_id, currency, amount_nano)
            SELECT '00000000-0000-7000-8000-0000000000f3', 2, id, 'EUR', -7
            FROM ledger_account WHERE kind = 'payment_clearing';
        COMMIT
    """,
}


@pytest.fixture
async def empty(postgres: PostgresServer) -> AsyncIterator[DatabaseUrls]:
    name = f"empty_{os.getpid()}"
    yield await postgres.create_database(name)
    await postgres.drop_database(name)


def revisions() -> list[str]:
    script = ScriptDirectory.from_config(alembic_config())
    return [found.revision for found in script.walk_revisions()][::-1]


async def test_each_runs_forward_on_a_filled_database(postgres: PostgresServer, empty: DatabaseUrls) -> None:
    connection = await postgres.superuser(empty.name)
    try:
        for revision in revisions():
            await migrate(empty.owner, empty.app, revision)
            await connection.execute(FILL[revision])
    finally:
        await connection.close()
    await check(empty.app)


async def test_models_and_migrations_describe_the_same_tables(database_urls: DatabaseUrls) -> None:
    def compare(connection: Connection) -> list[object]:
        def is_ours(name: str | None, kind: str, _parents: object) -> bool:
            # Partitions are the database's business: the model is of the table that they make up.
            return not (kind == "table" and name is not None and name.startswith("usage_event_"))

        context = MigrationContext.configure(connection, opts={"include_name": is_ours, "compare_type": True})
        return list(compare_metadata(context, load_models()))

    engine = create_async_engine(database_urls.owner)
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(compare) == []
    finally:
        await engine.dispose()


async def test_two_migrators_take_turns(empty: DatabaseUrls) -> None:
    await asyncio.gather(migrate(empty.owner, empty.app), migrate(empty.owner, empty.app))
    await check(empty.app)


async def test_a_database_behind_the_code_fails_the_check(empty: DatabaseUrls) -> None:
    await migrate(empty.owner, empty.app, revisions()[0])
    with pytest.raises(Conflict) as raised:
        await check(empty.app)
    assert raised.value.code == "migration_missing"


async def test_a_migration_that_fails_leaves_nothing(postgres: PostgresServer, empty: DatabaseUrls) -> None:
    connection = await postgres.superuser(empty.name)
    try:
        # In the way of a late migration; the earlier ones of the same run must not stay either.
        await connection.execute("CREATE TABLE budget (id int)")
        with pytest.raises(Exception, match="budget"):
            await migrate(empty.owner, empty.app)
        assert await connection.fetchval("SELECT to_regclass('tenant')") is None
    finally:
        await connection.close()


async def test_a_url_without_a_login_is_refused(empty: DatabaseUrls) -> None:
    with pytest.raises(Invalid):
        await migrate(empty.owner, "postgresql+asyncpg:///chappe")


def test_every_migration_limits_its_wait_for_locks() -> None:
    for found in ScriptDirectory.from_config(alembic_config()).walk_revisions():
        assert "SET LOCAL lock_timeout" in Path(found.path).read_text()


def test_the_command_migrates_and_checks(database_urls: DatabaseUrls) -> None:
    environ = {"CHAPPE_DATABASE_URL": database_urls.app, "CHAPPE_DATABASE_OWNER_URL": database_urls.owner}
    for command in ("migrate", "check"):
        done = subprocess.run(
            [str(Path(sys.executable).with_name("chappe")), "db", command],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, newest_revision() in done.stdout) == (0, True), done.stderr
