"""A tenant with a long past: usage by the million, made by the database itself in well under a minute.

What it makes is what ingestion would have made (`chappe ledger verify` finds nothing), only faster: ten keys, three
models in two regions, sixty days with their days and nights, and every kind of ending.
"""

from typing import Any

import asyncpg
import msgspec

from chappe_billing.ledger.postings import Account, AccountKind
from chappe_billing.ledger.queries import ensure_accounts
from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.schemas import Seed, SeedKey, SeedPerson, SeedTenant
from chappe_control.seeding.service import plant_seed
from chappe_kernel.api_keys import KeyKind, Pepper, generate_key
from chappe_kernel.ids import TenantId
from chappe_kernel.money import NANO_PER_UNIT
from chappe_store.session import Database
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID

EVENTS = 1_000_000
KEYS = 10
PASSWORD = "correct horse battery staple"
MEMBER = "owner@million.example"
OPERATOR = "operator@million.example"
_FUNDS_NANO = 100_000 * NANO_PER_UNIT
_EVENTS_PER_TRANSACTION = 25

MANIFEST: dict[str, Any] = {
    "currency": "EUR",
    "regions": [
        {"name": "fr-par", "jurisdiction": "FR", "gateway_url": "http://127.0.0.1:8411"},
        {"name": "de-fra", "jurisdiction": "DE", "gateway_url": "http://127.0.0.1:8421"},
    ],
    "publishers": [{"name": "huggingface", "title": "Hugging Face"}, {"name": "microsoft", "title": "Microsoft"}],
    "listings": [
        {
            "name": name,
            "publisher": "microsoft" if task == "embeddings" else "huggingface",
            "task": task,
            "context_tokens": 8192,
            "template_tokens": 64,
            "default_output_tokens": 0 if task == "embeddings" else 512,
            "max_output_tokens": 0 if task == "embeddings" else 1024,
            "regions": {
                region: {
                    "input_nano_per_token": price + extra,
                    "cached_input_nano_per_token": price // 4,
                    "output_nano_per_token": 0 if task == "embeddings" else 4 * price,
                    "request_nano": 100,
                }
                for region, extra in (("fr-par", 0), ("de-fra", 5))
            },
        }
        for name, task, price in (
            ("smollm2-135m-instruct", "chat", 60),
            ("mistral-small-24b", "chat", 400),
            ("multilingual-e5-small", "embeddings", 10),
        )
    ],
    "deployments": [
        {"region": region, "name": name, "engine": engine, "replicas": 2, "max_ongoing_requests": 64, "options": {}}
        for region in ("fr-par", "de-fra")
        for name, engine in (
            ("smollm2-135m-instruct", "llama.cpp"),
            ("mistral-small-24b", "vllm"),
            ("multilingual-e5-small", "e5"),
        )
    ],
}

# The months before this one: a database that has run for so long has their partitions. One statement, in UTC.
_PAST_MONTHS = """
    DO $$
    DECLARE starts timestamptz; partition text;
    BEGIN
        SET LOCAL timezone = 'UTC';
        FOR month IN 1..3 LOOP
            starts := date_trunc('month', now()) - make_interval(months => month);
            partition := to_char(starts, '"usage_event_"YYYY_MM');
            CONTINUE WHEN to_regclass(partition) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I PARTITION OF usage_event FOR VALUES FROM (%L) TO (%L)', partition,
                           first_request_id(starts), first_request_id(starts + interval '1 month'));
            PERFORM prepare_usage_partition(partition);
        END LOOP;
    END $$
"""

# `at` is when request number i started: evenly over the days, unevenly within each (the sine makes nights quiet).
# `batch` groups the events that one transaction posts, all of one region.
_STAGE = """
    CREATE TEMPORARY TABLE staged AS
    WITH numbered AS (
        SELECT i, i * 60.0::float8 / $1::float8 AS day, random() AS a, random() AS b, random() AS c, random() AS d
        FROM generate_series(0, $1::int - 1) AS i
    ), timed AS (
        SELECT *, now() - interval '60 days 10 seconds'
               + make_interval(secs => 86400 * (floor(day) + (day - floor(day)) + 0.12 * sin(2 * pi() * day))) AS at
        FROM numbered
    )
    SELECT i, at, a, b, c, d,
           CASE WHEN b < 0.7 THEN 'fr-par' ELSE 'de-fra' END AS region,
           CASE WHEN a < 0.6 THEN 'smollm2-135m-instruct' WHEN a < 0.85 THEN 'mistral-small-24b'
                ELSE 'multilingual-e5-small' END AS model,
           1 + floor($2::int * power(c, 2))::int AS key_number,
           CASE WHEN d < 0.97 THEN 'completed' WHEN d < 0.995 THEN 'disconnected' ELSE 'failed' END AS outcome,
           i / $3::int AS batch
    FROM timed
"""

# Prompts and answers have long tails; embeddings have no answer and no first token. Every fourth prompt was cached.
_COUNT = """
    CREATE TEMPORARY TABLE counted AS
    SELECT s.*, l.id AS listing_id, p.id AS price_version_id, k.id AS key_id, k.project_id,
           p.input_nano_per_token, p.cached_input_nano_per_token, p.output_nano_per_token, p.request_nano,
           (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5('x' || i), 1, 3) || '8' || substr(md5('y' || i), 1, 15))::uuid AS request_id,
           n.prompt, CASE WHEN s.c < 0.25 THEN n.prompt / 2 ELSE 0 END AS cached,
           CASE WHEN l.task = 'embeddings' OR (s.outcome = 'failed' AND s.d < 0.998) THEN 0
                ELSE 4 + floor(-80 * ln(1 - s.b * 0.999))::bigint END AS completion,
           CASE WHEN l.task = 'embeddings' OR (s.outcome = 'failed' AND s.d < 0.998) THEN NULL
                ELSE (60 + 80 * s.a + 40 * -ln(1 - s.c * 0.999) * (CASE s.region WHEN 'fr-par' THEN 1 ELSE 1.4 END)
                     )::bigint END AS ttft
    FROM staged s
    JOIN listing l ON l.name = s.model
    JOIN price_version p ON p.listing_id = l.id AND p.region = s.region
    JOIN (SELECT id, project_id, row_number() OVER (ORDER BY id) AS number FROM api_key WHERE tenant_id = $1) k
        ON k.number = s.key_number,
    LATERAL (SELECT 20 + floor(-300 * ln(1 - s.c * 0.999))::bigint AS prompt) n
"""

_EVENTS = """
    INSERT INTO usage_event (request_id, tenant_id, project_id, key_id, grant_id, region, gateway, listing_id,
        price_version_id, outcome, prompt_tokens, cached_tokens, completion_tokens, amount_nano, granted_nano,
        written_off_nano, hold_nano, started_at, finished_at, ttft_ms, transaction_id, posted_at)
    SELECT request_id, $1::uuid, project_id, key_id, '00000000-0000-7000-8000-000000000000', region, region || '-gw-1',
        listing_id, price_version_id, outcome, prompt, cached, completion, amount, 0,
        CASE WHEN d < 0.0005 THEN amount / 2 ELSE 0 END, amount, at,
        at + make_interval(secs => (coalesce(ttft, 30) + 12 * completion) / 1000.0), ttft,
        CASE WHEN sum(amount) OVER posting > 0
             THEN (lpad(to_hex((extract(epoch FROM max(ends_at) OVER posting) * 1000)::bigint), 12, '0') || '7'
                   || substr(md5('t' || batch || region), 1, 3) || '8' || substr(md5(batch || region), 1, 15))::uuid
             END,
        max(ends_at) OVER posting
    FROM counted,
    LATERAL (SELECT at + make_interval(secs => 1 + (coalesce(ttft, 30) + 12 * completion) / 1000.0) AS ends_at) t,
    LATERAL (SELECT CASE WHEN outcome = 'failed' AND completion = 0 THEN 0
        ELSE (prompt - cached) * input_nano_per_token + cached * cached_input_nano_per_token
             + completion * output_nano_per_token + request_nano END AS amount) r
    WINDOW posting AS (PARTITION BY batch, region)
    ORDER BY request_id
"""

_HOURS = """
    INSERT INTO usage_hour
    SELECT tenant_id, date_trunc('hour', posted_at), project_id, key_id, listing_id, region, count(*),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(amount_nano), sum(written_off_nano)
    FROM usage_event WHERE tenant_id = $1 GROUP BY 1, 2, 3, 4, 5, 6
"""

# The trigger on the hours knows minutes of now alone.
_MINUTES = """
    INSERT INTO usage_minute
    SELECT tenant_id, date_trunc('minute', posted_at), listing_id, region, count(*), sum(prompt_tokens),
           sum(cached_tokens), sum(completion_tokens), sum(amount_nano), sum(written_off_nano)
    FROM usage_event WHERE tenant_id = $1 GROUP BY 1, 2, 3, 4
"""

_PRICE_DAYS = """
    INSERT INTO usage_price_day (tenant_id, day, project_id, price_version_id, requests, prompt_tokens,
                                 cached_tokens, completion_tokens, seconds, images, amount_nano, written_off_nano)
    SELECT tenant_id, (posted_at AT TIME ZONE 'UTC')::date, project_id, price_version_id, count(*),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), 0, 0, sum(amount_nano), sum(written_off_nano)
    FROM usage_event
    WHERE tenant_id = $1 AND (completion_tokens > 0 OR (prompt_tokens > 0 AND outcome <> 'failed'))
    GROUP BY 1, 2, 3, 4
"""

_TRANSACTIONS = """
    INSERT INTO ledger_transaction (id, kind, tenant_id, currency, created_at)
    SELECT DISTINCT transaction_id, 'usage', tenant_id, 'EUR', posted_at
    FROM usage_event WHERE tenant_id = $1 AND transaction_id IS NOT NULL
"""

_ENTRIES = """
    INSERT INTO ledger_entry (transaction_id, line, account_id, tenant_id, currency, amount_nano)
    SELECT transaction_id, line, account_id, entry_tenant, 'EUR', amount
    FROM (
        SELECT transaction_id, region, sum(amount_nano)::bigint AS rated, sum(written_off_nano)::bigint AS lost
        FROM usage_event WHERE tenant_id = $1 AND transaction_id IS NOT NULL GROUP BY transaction_id, region
    ) u, LATERAL (VALUES
        (1, $2::uuid, $1::uuid, lost - rated),
        (2, $3::uuid, NULL, -lost),
        (3, CASE u.region WHEN 'fr-par' THEN $4::uuid ELSE $5::uuid END, NULL, rated)
    ) AS e (line, account_id, entry_tenant, amount)
    WHERE amount <> 0
"""

_OUTBOX = """
    INSERT INTO outbox (id, topic, payload, created_at, delivered_at)
    SELECT id, 'usage.posted', '{}', created_at, created_at FROM ledger_transaction
    WHERE tenant_id = $1 AND kind = 'usage'
"""

_FEED = """
    INSERT INTO rated_usage_waiting
    SELECT id, false FROM ledger_transaction WHERE tenant_id = $1 AND kind = 'usage'
    UNION ALL SELECT request_id, true FROM usage_event WHERE tenant_id = $1 AND transaction_id IS NULL
"""

_POSTED = """
    UPDATE budget SET posted_nano = (
        SELECT sum(amount_nano - written_off_nano) FROM usage_event WHERE tenant_id = $1
    ) WHERE tenant_id = $1
"""


async def plant(database: Database, peppers: tuple[Pepper, ...]) -> TenantId:
    """The catalogue, and a tenant with keys, funds, a member and an operator, without usage."""
    seed = Seed(
        tenant=SeedTenant(name="Million SA", allowed_regions=("fr-par", "de-fra"), requests_per_minute=6000),
        project="default",
        keys=tuple(
            SeedKey(f"service-{number:02}", KeyKind.INFERENCE, generate_key(KeyKind.INFERENCE))
            for number in range(1, KEYS + 1)
        ),
        member=SeedPerson(MEMBER, PASSWORD),
        operator=SeedPerson(OPERATOR, PASSWORD),
    )
    async with database.operator() as session:
        await apply_catalogue(session, read_manifest(msgspec.json.encode(MANIFEST)), {})
        return await plant_seed(session, seed, peppers=peppers, welcome_credit_nano=_FUNDS_NANO)


async def fill(
    database: Database, connection: "asyncpg.Connection[Any]", tenant_id: TenantId, events: int = EVENTS
) -> None:
    """Give the tenant its past. `connection` is the superuser's: who ingests cannot say when something was posted."""
    funds = Account(AccountKind.TENANT_FUNDS, "EUR", DEFAULT_LEGAL_ENTITY_ID, tenant_id=tenant_id)
    write_off = Account(AccountKind.WRITE_OFF, "EUR", DEFAULT_LEGAL_ENTITY_ID)
    paris, frankfurt = (
        Account(AccountKind.REVENUE, "EUR", DEFAULT_LEGAL_ENTITY_ID, region=region) for region in ("fr-par", "de-fra")
    )
    async with database.ingest() as session:
        await ensure_accounts(session, [funds, write_off, paris, frankfurt])
    await connection.execute("SELECT setseed(0.42)")
    await connection.execute(_PAST_MONTHS)
    # The ledger's balance is checked row by row at commit, and only for transactions of now: `verify` does it instead.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(_STAGE, events, KEYS, _EVENTS_PER_TRANSACTION)
    await connection.execute(_COUNT, tenant_id)
    await connection.execute(_EVENTS, tenant_id)
    await connection.execute("DROP TABLE staged, counted")
    # Triggers make days, months and spending of the hours.
    await connection.execute("RESET session_replication_role")
    await connection.execute(_HOURS, tenant_id)
    await connection.execute("DELETE FROM usage_minute WHERE tenant_id = $1", tenant_id)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(_MINUTES, tenant_id)
    await connection.execute(_PRICE_DAYS, tenant_id)
    await connection.execute(_TRANSACTIONS, tenant_id)
    await connection.execute(_ENTRIES, tenant_id, funds.id, write_off.id, paris.id, frankfurt.id)
    await connection.execute(_FEED, tenant_id)
    await connection.execute(_OUTBOX, tenant_id)
    await connection.execute(_POSTED, tenant_id)
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM ANALYZE")
