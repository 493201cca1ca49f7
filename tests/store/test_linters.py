"""Linters over what the migrations send (squawk) and over what they build (pgrls)."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic.script import Script, ScriptDirectory

from chappe_store.migrate import alembic_config
from tests.conftest import DatabaseUrls, PostgresServer
from tests.store.offline_sql import offline_sql

HERE = Path(__file__).parent
SCRIPTS = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())

_ACROSS_TENANTS = r"public\.\w+\.chappe_(ingest|operator|lookup|audit|announcer)"
_WHOLE_ROLE = "these roles work across tenants; what each may do there is its privileges' business, not the policy's"
# What pgrls may find, by rule: a pattern of the place, and why it is right as it is. Whatever else it finds fails.
EXEMPT: dict[str, dict[str, str]] = {
    "PERF003": {
        r"public\.ledger_entry\.chappe_app": "reached by its transaction, which has few",
        r"public\.quota\.no_contract_\w+": "the tenant's policy finds the rows; this takes some of them away again",
        r"public\.usage_month\.chappe_app": "reached by its month, and nobody reads it as a tenant yet",
        r"public\.tenant\.chappe_app_parent_(reads|changes)": "reached by the parent, which has an index",
    },
    "SEC001": {
        r"public\.alembic_version": "Alembic's own; one role may read it",
        r"public\.(region|publisher|listing|listing_region|deployment)": "the marketplace, for everybody",
        r"public\.price_draft_line": "nobody's prices yet: only the operator's role reads them",
        r"public\.(plan|plan_quota)": "what the operator sells, for everybody",
        r"public\.(region_credential|deployment_state|gateway_heartbeat)": "no tenant's",
        r"public\.operator_(user|session|token|idempotency_record)": "no tenant's",
        r"public\.(instance|keys_revision|usage_kept)": "one row, no tenant's",
        r"public\.dunning_policy": "of the operator's companies; only its role reads it",
        r"public\.usage_sealed_month": "sums of all tenants; only the operator's role reads it",
        r"public\.legal_entity(_payments)?": "who sells and how it collects, for everybody who buys",
        r"public\.(vat_rate(_withdrawal)?|entity_tax)": "how everybody is taxed who buys",
        r"public\.document_refusal": "of invoices that no tenant may see yet; only the operator's role reads it",
        r"public\.publisher_share": "publishers', and no tenant's to see",
        r"public\.usage_quarantine_decision": "of events whose tenant is unverified; no tenant's role reads it",
        r"public\.mail_link": "of people who belong to no tenant yet; only the operator's role reads it",
        r"public\.rated_usage_(waiting|batch|receipt)": "of the feed as a whole; only the operator's role reads them",
        r"public\.(invoice_(run|counter)|journal_account)": "of a legal entity; only the operator's role reads them",
        r"public\.outbox": "tenants' role may insert and never read",
        r"public\.audit_checkpoint": "hashes and signatures; only the operator's role reads it",
        r"public\.payment_(event|event_look)": "what a payment service told, of no tenant's; only the operator's role",
        r"public\.payment_quarantine": "money of whose it is nobody is sure; only the operator's role reads it",
    },
    "SEC005": {_ACROSS_TENANTS: _WHOLE_ROLE},
    "SEC007": {r"public\.\w+": "one permissive policy per role: there is nothing to combine"},
    "SEC008": {_ACROSS_TENANTS: _WHOLE_ROLE},
    "SEC009": {
        r"public\.usage_event_(default|\d{4}_\d{2})": "a partition is reached through its parent; alone it is closed"
    },
    "SEC013": {
        r"public\.\w+\.\w+_(append_only|no_truncate|balanced|keep_an_owner|resolved_once)": (
            "they refuse or check, and write nothing"
        ),
        r"public\.\w+\.(budget_increase|tenant_(state|parent|is_open))": "refuses, and writes nothing of another row",
        r"public\.\w+\.\w+_announce_key_change": "notes the row's own tenant and key, as a role that can do only that",
        r"public\.(tenant|api_key)\.\w+_follow_(new_)?limit": "writes a quota of the row's own tenant, as its caller",
        r"public\.price_version\.price_version_one_per_start": "refuses, and writes nothing",
        r"public\.price_withdrawal\.price_withdrawal_in_time": "the same",
        r"public\.invoice_document\.invoice_document_kept": "refuses, and writes nothing",
        r"public\.payment\.payment_kept": "the same",
        r"public\.price_draft\.price_draft_ended": "the same",
        r"public\.invoice\w*\.invoice_(credit_notes|funding_used|settlement_within)": "the same",
        r"public\.billing_profile\.billing_profile_billed_to": "the same",
        r"public\.invoice(_settlement)?\.\w+_follow_open": "writes what is open of the row's own invoice",
        r"public\.usage_event\.usage_event_add_to_price_days": "adds each row to its own tenant's sums",
        r"public\.usage_hour\.usage_hour_follow_(insert|update)": "adds rows to their own tenants' sums",
        r"public\.(ledger_transaction|usage_event)\.\w+_feed": "queues an id that only the operator's role reads",
        r"public\.member\.member_revoke_keys": "ends a removed member's keys, by the remover's rights",
        r"public\.\w+\.\w+_audit": "writes the changed row's own tenant into the log, as a role that can do only that",
    },
    "SEC014": {
        r"public\.(resolve_(api_key|secret)|find_(leaked_)?secret)": (
            "finds a key before its tenant is known; its owner reads just that"
        ),
        r"public\.find_(member_by_email|account|member_session|portal_session|invitation)": "the same for people",
        r"public\.find_content_terms": "a region asks how long it may keep what it has, whosever it is",
        r"public\.keep_an_owner": "refuses a change by what is left of its own tenant's owners, and tells nothing else",
        r"public\.(audit_change|append_audit_entry)": "their owner can append to the audit log and nothing else",
        r"public\.announce_key_change": "its owner can note whose keys changed and nothing else",
        r"public\.drop_usage_partition": "drops a month that is sealed, and nothing else",
        r"public\.ensure_usage_partitions": "makes partitions from the clock alone; takes a number",
    },
    "SEC028": {_ACROSS_TENANTS: _WHOLE_ROLE},
    "SEC030": {
        r"public\.audit_entry": "no tenant: the operator's own change, and no tenant's to see",
        r"public\.key_change": "no tenant: it concerns every key, and gateways alone need to know",
        r"public\.price_(version|withdrawal)": "no tenant: everybody's prices, for everybody to see",
        r"public\.ledger_(entry|transaction)": "no tenant: on the operator's accounts, and no tenant's to see",
    },
    "SEC035": {
        r"public\.(api_key|browser_token|member_session|invitation) \(uq_\w+_digest\)": "to collide is to know it",
        r"public\.ledger_transaction \(uq_ledger_transaction_id_currency\)": "ids are drawn, and tenants only read",
        r"public\.invoice \(uq_invoice_(legal_entity_id_number|legal_entity_id_series_ordinal|source_id)\)": (
            "only the operator's role issues, and tenants only read"
        ),
        r"public\.(tenant|ledger_transaction) \(uq_\w+_reference\)": "only the operator's role writes references",
        r"public\.payment(_method|_customer|_refund)? \(uq_payment\w*_(service|intent|session)_id\)": (
            "a payment service's names of things, which only the operator's role writes"
        ),
    },
    "SEC038": {_ACROSS_TENANTS: _WHOLE_ROLE + "; nobody is one of them without `SET ROLE`"},
}
# What squawk may find, by migration and rule, and why it is right as it is.
_FEW_PEOPLE = "there are few people: to look at them all takes milliseconds"
_FEW_TENANTS = "there are few tenants, and a few accounts of each: to look at them all takes milliseconds"
_INGESTION_WAITS = "while it is built ingestion waits, and gateways spool what they have"
ACCEPTED: dict[str, dict[str, str]] = {
    "0004": {
        "constraint-missing-not-valid": _FEW_PEOPLE,
        "disallowed-unique-constraint": _FEW_PEOPLE,
    },
    "0005": {"require-concurrent-index-creation": "there are few keys, and the index is of none of them yet"},
    "0013": {
        "require-concurrent-index-creation": "few tenants and open grants: to index them takes milliseconds",
        "constraint-missing-not-valid": "few tenants: to look at them all takes milliseconds",
    },
    "0006": {"require-concurrent-index-creation": _INGESTION_WAITS},
    "0007": {"require-concurrent-index-creation": _INGESTION_WAITS},
    "0014": {"require-concurrent-index-creation": _INGESTION_WAITS},
    "0009": {
        **dict.fromkeys(
            (
                *("adding-not-nullable-field", "constraint-missing-not-valid", "disallowed-unique-constraint"),
                *("adding-foreign-key-constraint", "require-concurrent-index-creation"),
            ),
            _FEW_PEOPLE,
        ),
        "ban-drop-constraint": "one address may be a member of several organisations now",
        "ban-drop-function": "it comes back at once, under the same name and with the same answer",
        "ban-drop-column": "a password's hash in a second place would outlive a changed password",
    },
    "0010": {
        "ban-drop-constraint": "the one in its place takes all that it took, and more",
        "constraint-missing-not-valid": "there are few tenants: to look at them all takes milliseconds",
        "require-concurrent-index-creation": "the same",
    },
    "0018": {
        "ban-drop-constraint": "the ones in their place take all that they took, and more",
        "disallowed-unique-constraint": _FEW_TENANTS,
        "adding-foreign-key-constraint": _FEW_TENANTS,
        "constraint-missing-not-valid": _FEW_TENANTS,
        "require-concurrent-index-creation": "partial, and of no row yet",
    },
    "0035": {
        **dict.fromkeys(
            ("ban-drop-constraint", "constraint-missing-not-valid", "adding-serial-primary-key-field"),
            "sums by day get another column in their key: there are few, and who posts waits for the scan anyway",
        ),
        "ban-drop-default": "no release has written the column yet, and none shall forget it",
        "require-concurrent-index-creation": _INGESTION_WAITS,
    },
    "0020": {
        "require-concurrent-index-creation": "built empty, of no event yet: ingestion waits for a scan",
        "ban-drop-function": "only the triggers that go with them called them",
    },
    "0016": {
        "ban-drop-constraint": "the one in its place takes all that it took, and more",
        "constraint-missing-not-valid": "ledger transactions are few beside events: one for a batch and tenant",
    },
    "0017": {
        "ban-drop-constraint": "a trigger in its place keeps the same, but for versions that were withdrawn",
        "constraint-missing-not-valid": "there are few price versions: to look at them all takes milliseconds",
        "require-concurrent-index-creation": "the same",
    },
    "0011": {
        "constraint-missing-not-valid": "the columns are new and empty: a million keys are looked at in a second",
        "require-concurrent-index-creation": "partial, and of no row yet: the same",
    },
    "0021": {"require-concurrent-index-creation": _INGESTION_WAITS},
    "0026": {
        "require-concurrent-index-deletion": "of a partitioned table it cannot be concurrent, and takes milliseconds",
        "ban-drop-function": "only the trigger that goes with it called it",
    },
    "0029": {
        "ban-drop-constraint": "the one in its place takes all that it took, and more",
        "constraint-missing-not-valid": "there are few price versions: to look at them all takes milliseconds",
    },
    "0030": {
        "ban-drop-constraint": "the one in its place takes all that it took, and more",
        "constraint-missing-not-valid": "ledger transactions are few beside events: one for a batch and tenant",
    },
    "0031": {"require-concurrent-index-creation": "ledger transactions are few beside events"},
    "0036": {
        "ban-drop-constraint": "the ones in their place take all that they took, and more",
        "constraint-missing-not-valid": "calls to a payment service are few: to look at them all takes milliseconds",
        "require-concurrent-index-creation": "partial, and of no row yet",
    },
    "0037": {
        "ban-drop-constraint": "the one in its place takes all that it took, and more",
        "constraint-missing-not-valid": "what settles invoices is little: one or two for each invoice",
    },
    "0025": {
        "ban-drop-constraint": "the one in its place takes all that it took, and more",
        "constraint-missing-not-valid": "ledger transactions are few beside events: one for a batch and tenant",
        "require-concurrent-index-creation": "partial, and of no row yet",
    },
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.revision))
def test_migration_is_safe_on_a_busy_database(tmp_path: Path, script: Script) -> None:
    sql = tmp_path / f"{Path(script.path).stem}.sql"
    sql.write_text(offline_sql(script))
    done = squawk(sql)
    found = set(re.findall(r"^\S+: (?:warning|error): (\S+)", done.stdout, re.MULTILINE))
    assert found == set(ACCEPTED.get(str(script.revision), {})), done.stdout
    assert done.returncode == bool(found), done.stderr


def test_squawk_sees_a_migration_that_is_not(tmp_path: Path) -> None:
    sql = tmp_path / "bad.sql"
    sql.write_text("ALTER TABLE tenant ADD COLUMN plan int NOT NULL;")
    done = squawk(sql)
    assert done.returncode == 1
    for rule in ("require-lock-timeout", "adding-required-field", "prefer-bigint-over-int"):
        assert rule in done.stdout


@pytest.mark.timeout(400)  # Its prover takes 40 s on a busy machine.
async def test_row_security_has_only_the_exemptions_that_are_listed(
    postgres: PostgresServer, database_urls: DatabaseUrls
) -> None:
    connection = await postgres.superuser(database_urls.name)
    await connection.execute("CREATE TABLE open_note (tenant_id uuid); GRANT SELECT ON open_note TO chappe_app")
    await connection.close()
    found = pgrls(database_urls)
    assert ("SEC001", "public.open_note") in found, "the linter sees what is open"
    unexplained = {place for place in found if not exemption(*place)} - {("SEC001", "public.open_note")}
    assert unexplained == set()
    used = {(rule, exemption(rule, location)) for rule, location in found}
    assert {(rule, pattern) for rule, patterns in EXEMPT.items() for pattern in patterns} <= used, "a stale exemption"


def exemption(rule: str, location: str) -> str | None:
    return next((pattern for pattern in EXEMPT.get(rule, {}) if re.fullmatch(pattern, location)), None)


def squawk(sql: Path) -> subprocess.CompletedProcess[str]:
    return _run({}, "squawk", "--config", str(HERE / "squawk.toml"), "--reporter", "gcc", str(sql))


def pgrls(urls: DatabaseUrls) -> set[tuple[str, str]]:
    """Rule and place of each finding."""
    done = _run({"DATABASE_URL": urls.superuser.replace("+asyncpg", "")}, "pgrls", "lint", "--format", "json")
    assert done.returncode in {0, 1}, done.stderr
    return {(found["rule_id"], found["location"]) for found in json.loads(done.stdout)["violations"]}


def _run(environ: Mapping[str, str], tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE, env=environ)
