"""What collecting leaves behind, beside a million requests: of one tenant by the application's own services, and of
ten thousand others, of whom pages show lists, by the database itself.

The tenant's usage is invoiced up to a moment in the middle of a day, so that its next invoice has whole days and a
broken one. Nothing is left over for the workers of the control plane that is measured: no payment is under way, no
document waits to be rendered, no dunning is due, and every month's run has ended.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from chappe_billing.advances.service import document_advances
from chappe_billing.budgets.service import lock_budgets
from chappe_billing.funds.service import post_to_tenant
from chappe_billing.invoice_runs.service import begin_run, work_on
from chappe_billing.invoicing.queries import read_today
from chappe_billing.invoicing.service import issue
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, Rail, TransactionKind
from chappe_billing.ledger.service import new_transaction_id
from chappe_billing.payments.models import Method
from chappe_billing.payments.service import Bounds, TopUp, start_setup, start_top_up
from chappe_control.webhooks import service as webhooks
from chappe_control.webhooks.kinds import CHOOSABLE
from chappe_control.webhooks.sealing import SecretSeal
from chappe_control.webhooks.service import EndpointOrder
from chappe_kernel.api_keys import Pepper
from chappe_kernel.ids import INVOICE, INVOICE_RUN, PAYMENT, PAYMENT_CALL, WEBHOOK, TenantId, encode_id
from chappe_kernel.money import NANO_PER_UNIT
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID

OTHERS = 10_000
TOP_UPS = 100
# At ten in the evening, whenever this runs: two hours of events are read one by one.
_INVOICED_BEFORE = timedelta(days=40)
_AT = time(22, tzinfo=UTC)
_PORTAL = "https://portal.million.example"
_BOUNDS = Bounds(5 * NANO_PER_UNIT, 10_000 * NANO_PER_UNIT)

_SELLER = """
    UPDATE legal_entity SET country = 'FR', postal_code = '75007', city = 'Paris', vat_number = 'FR40303265045',
                            payments = 'stripe';
    UPDATE tenant SET country = 'FR', postal_code = '69001' WHERE id = '{tenant_id}';
    INSERT INTO dunning_policy (legal_entity_id, enabled, notice_days, retry_days, grace_days)
    SELECT id, false, '{{1, 8, 15}}', '{{3}}', 7 FROM legal_entity
"""

# Those that the control plane would begin by itself, while it is measured.
_RUNS = """
    INSERT INTO invoice_run (id, legal_entity_id, month, cut_off_at, ended_at)
    SELECT uuidv7(), l.id, m::date, m + interval '1 month', now()
    FROM legal_entity l, generate_series(date_trunc('month', now()) - interval '14 months',
                                         date_trunc('month', now()), interval '1 month') m
    ON CONFLICT DO NOTHING
"""

# An id in the order of `i`, of a kind of its own by `prefix`.
_ID = "('{prefix}00000-0000-7000-8000-' || lpad(to_hex({i}), 12, '0'))::uuid"


_TREATMENT = """'{"category": "S", "rate_bp": 2000}'"""


def _id(prefix: str, i: str = "i") -> str:
    return _ID.format(prefix=prefix, i=i)


# Under `session_replication_role = replica`: no trigger, no check, no audit. Of three invoices of everybody two are
# settled, the third is due within 15 days, or was within the last 45.
_OTHERS = (
    f"""
    CREATE TEMPORARY TABLE other AS
    SELECT i, {_id("0a1")} AS id, entity_id, run_id FROM generate_series(1, {OTHERS}) i, estate
    """,
    """
    INSERT INTO tenant (id, name, state, currency, allowed_regions, requests_per_minute, country, postal_code,
                        vat_number)
    SELECT id, 'Customer ' || i, 'active', 'EUR', '{FR}', 600, 'FR', '69001',
           CASE WHEN i % 5 = 0 THEN 'FR40303265045' END FROM other
    """,
    f"""
    INSERT INTO ledger_account (id, kind, currency, tenant_id)
    SELECT {_id("0a2")}, 'tenant_funds', 'EUR', id FROM other
    """,
    f"""
    INSERT INTO ledger_transaction (id, kind, tenant_id, currency, created_at)
    SELECT {_id("0a3")}, 'usage', id, 'EUR', now() - interval '1 hour' FROM other
    """,
    f"""
    INSERT INTO ledger_entry (transaction_id, line, account_id, tenant_id, currency, amount_nano)
    SELECT {_id("0a3")}, 1, {_id("0a2")}, id, 'EUR', -40000000 * i::bigint FROM other
    """,
    """
    INSERT INTO budget (tenant_id, currency, posted_nano, credit_limit_nano)
    SELECT id, 'EUR', 340000000 * i::bigint, 10 ^ 15 FROM other
    """,
    f"""
    CREATE TEMPORARY TABLE other_invoice AS
    SELECT o.i, n, o.id AS tenant_id, entity_id, run_id, {_id("0a4", "n * 100000 + o.i")} AS id,
           {_id("0a5", "n * 100000 + o.i")} AS cut_id, 10 * o.i::bigint AS net, 2 * o.i::bigint AS tax,
           now() - make_interval(months => 3 - n) AS at,
           'OLD-' || lpad((n * 100000 + o.i)::text, 6, '0') AS number,
           CURRENT_DATE + 15 - CASE n WHEN 3 THEN o.i % 60 ELSE 90 END AS due_on
    FROM other o, generate_series(1, 3) n
    """,
    """
    INSERT INTO invoice_cut (id, tenant_id, cut_off_at, charged_nano)
    SELECT cut_id, tenant_id, at, net * 10000000 FROM other_invoice
    """,
    """
    INSERT INTO invoice (id, kind, legal_entity_id, tenant_id, currency, minor_digits, series, ordinal, number,
                         issued_on, due_on, cut_off_at, period_from, period_to, net_minor, tax_minor, gross_minor,
                         run_id, content, created_at)
    SELECT id, 'invoice', entity_id, tenant_id, 'EUR', 2, 'OLD', n * 100000 + i, number, due_on - 30,
           due_on, at, (at - interval '1 month')::date, at::date, net, tax, net + tax, run_id, '{}', at
    FROM other_invoice
    """,
    """
    INSERT INTO invoice_open
    SELECT id, tenant_id, due_on, CASE n WHEN 3 THEN (net + tax) * 10000000 ELSE 0 END FROM other_invoice
    """,
    """
    INSERT INTO invoice_run_tenant (run_id, tenant_id, outcome, code, invoices, decided_at)
    SELECT run_id, id, CASE WHEN i % 50 = 0 THEN 'later' ELSE 'issued' END,
           CASE WHEN i % 50 = 0 THEN 'tax_undecided' END, CASE WHEN i % 50 = 0 THEN 0 ELSE 1 END, now() FROM other
    """,
    """
    INSERT INTO invoice_document (tenant_id, invoice_id, kind, content, sha256, renderer, keep_until)
    SELECT tenant_id, id, 'pdf', 'a page', sha256('a page'), 'bench', CURRENT_DATE + 3650 FROM invoice
    """,
    """
    INSERT INTO document_refusal (invoice_id, renderer, findings)
    SELECT id, 'bench', ARRAY['BR-01: an invoice has a specification'] FROM other_invoice WHERE i <= 200 AND n = 3
    """,
    """
    INSERT INTO dunning_step (tenant_id, invoice_id, kind, level, open_nano, currency, number, due_on, taken_at)
    SELECT tenant_id, id, 'notice', level, (net + tax) * 10000000, 'EUR', number, due_on,
           (due_on + 7 * level)::timestamptz
    FROM other_invoice, generate_series(1, 3) level WHERE n = 3 AND due_on + 7 * level < CURRENT_DATE
    """,
    f"""
    INSERT INTO payment (tenant_id, id, legal_entity_id, purpose, method, currency, net_nano, tax_nano, gross_minor,
                         treatment, state, problem, transaction_id, created_at, changed_at)
    SELECT id, {_id("0a6")}, entity_id, 'top_up', CASE WHEN i % 3 = 0 THEN 'sepa_debit' ELSE 'card' END, 'EUR',
           50000000000, 10000000000, 6000, {_TREATMENT}, CASE WHEN i % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
           CASE WHEN i % 10 = 0 THEN 'card_declined' END, CASE WHEN i % 10 <> 0 THEN {_id("0a7")} END,
           now() - make_interval(mins => i), now() - make_interval(mins => i) FROM other
    """,
    f"""
    INSERT INTO payment_refund (tenant_id, id, legal_entity_id, payment_id, currency, net_nano, gross_minor, reason,
                                state, transaction_id)
    SELECT id, {_id("0a8")}, entity_id, {_id("0a6")}, 'EUR', 50000000000, 6000, 'asked for', 'succeeded', {_id("0a9")}
    FROM other WHERE i % 5 = 1
    """,
    f"""
    INSERT INTO payment_dispute (tenant_id, service_id, payment_id, currency, amount_minor, reason, state, opened_at)
    SELECT id, 'dp_' || i, {_id("0a6")}, 'EUR', 6000, 'fraudulent', CASE WHEN i % 3 = 0 THEN 'open' ELSE 'lost' END,
           now() - make_interval(hours => i) FROM other WHERE i % 20 = 1
    """,
    f"""
    INSERT INTO payment_quarantine (id, service_id, reason, payment_id, currency, amount_minor)
    SELECT {_id("0aa")}, 'ch_' || i, 'amount_differs', {_id("0a6")}, 'EUR', 6000 FROM other WHERE i % 500 = 1
    """,
    f"""
    INSERT INTO payment_call (tenant_id, id, legal_entity_id, kind, parameters, payment_id, state, attempts)
    SELECT id, {_id("0ab")}, entity_id, 'checkout', '{{}}', {_id("0a6")}, 'poisoned', 3 FROM other WHERE i % 200 = 1
    """,
    f"""
    INSERT INTO payment_call_attempt (tenant_id, call_id, attempt, outcome, detail)
    SELECT id, {_id("0ab")}, n, CASE WHEN n < 3 THEN 'later' ELSE 'poisoned' END, 'no such customer'
    FROM other, generate_series(1, 3) n WHERE i % 200 = 1
    """,
    """
    INSERT INTO vat_check (tenant_id, vat_number, due_at, attempts, last_error, last_tried_at)
    SELECT id, 'FR40303265045', now() + interval '1 year', 5, 'MS_UNAVAILABLE', now() FROM other WHERE i % 5 = 0
    """,
)

# The tenant's own lists: as long as a year makes them.
_OWN = (
    """
    UPDATE payment SET state = 'succeeded', transaction_id = id WHERE tenant_id = $1;
    """,
    """
    UPDATE payment_call SET state = 'done', ended_at = now() WHERE tenant_id = $1
    """,
    f"""
    INSERT INTO payment (tenant_id, id, legal_entity_id, purpose, method, currency, net_nano, tax_nano, gross_minor,
                         treatment, state, transaction_id, created_at, changed_at)
    SELECT $1, {_id("0b6")}, '{DEFAULT_LEGAL_ENTITY_ID}', 'auto_top_up', 'card', 'EUR', 50000000000, 10000000000, 6000,
           {_TREATMENT}, 'succeeded', {_id("0b6")}, now() - make_interval(hours => 9 * i), now()
    FROM generate_series(1, 1000) i
    """,
    """
    INSERT INTO webhook_event (tenant_id, id, kind, body)
    SELECT tenant_id, uuidv7(-make_interval(mins => i)), kind, body
    FROM webhook_event, generate_series(1, 5000) i WHERE tenant_id = $1
    """,
    "UPDATE webhook_delivery SET state = 'delivered', ended_at = now(), attempts = 1 WHERE tenant_id = $1",
    """
    INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_id, state, attempts, ended_at)
    SELECT e.tenant_id, e.id, d.endpoint_id, e.id, d.state, d.attempts, d.ended_at
    FROM webhook_event e, webhook_delivery d WHERE e.tenant_id = $1 AND d.tenant_id = $1 AND e.id <> d.event_id
    """,
    """
    INSERT INTO webhook_attempt (tenant_id, delivery_id, attempt, status, duration_ms)
    SELECT tenant_id, id, 1, 204, 80 FROM webhook_delivery WHERE tenant_id = $1
    """,
    """
    INSERT INTO alert (tenant_id, id, kind, subject, figures, raised_at, recovered_at)
    SELECT $1, uuidv7(-make_interval(hours => i)), 'balance.low', 'amount',
           '{"available": "12.000000000", "currency": "EUR"}', now() - make_interval(hours => i), now()
    FROM generate_series(1, 500) i
    """,
)


async def fill(
    database: Database, connection: "asyncpg.Connection[Any]", tenant_id: TenantId, peppers: tuple[Pepper, ...]
) -> Mapping[str, str]:
    """Examples for the parameters of collecting's paths. `connection` is the superuser's."""
    await connection.execute(_SELLER.format(tenant_id=tenant_id))
    await _top_up(database, tenant_id)
    run_id = await _run(database)
    await _invoice(database, tenant_id)
    examples = await _start(database, TenantScope(tenant_id), SecretSeal(peppers))
    invoice_id = await connection.fetchval(
        "SELECT id FROM invoice WHERE tenant_id = $1 AND kind = 'invoice' ORDER BY id DESC LIMIT 1", tenant_id
    )
    await connection.execute(_RUNS)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("CREATE TEMPORARY TABLE estate (entity_id uuid, run_id uuid)")
    await connection.execute("INSERT INTO estate VALUES ($1, $2)", DEFAULT_LEGAL_ENTITY_ID, run_id)
    for statement in _OTHERS:
        await connection.execute(statement)
    for statement in _OWN:
        await connection.execute(statement, tenant_id)
    await connection.execute("DROP TABLE estate, other, other_invoice")
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM ANALYZE")
    return {**examples, "invoice_id": encode_id(INVOICE, invoice_id), "run_id": encode_id(INVOICE_RUN, run_id)}


async def _top_up(database: Database, tenant_id: TenantId) -> None:
    """With tax, and the advance invoices about them."""
    accounts = (
        (Account(AccountKind.TENANT_FUNDS, "EUR", DEFAULT_LEGAL_ENTITY_ID, tenant_id=tenant_id), 50),
        (Account(AccountKind.VAT_PAYABLE, "EUR", DEFAULT_LEGAL_ENTITY_ID), 10),
        (Account(AccountKind.PAYMENT_CLEARING, "EUR", DEFAULT_LEGAL_ENTITY_ID), -60),
    )
    async with database.operator() as session:
        await lock_budgets(session, [tenant_id])
        for number in range(TOP_UPS):
            posting = Posting(
                id=new_transaction_id(),
                kind=TransactionKind.TOP_UP,
                tenant_id=tenant_id,
                currency="EUR",
                lines=tuple(Line(account, units * NANO_PER_UNIT) for account, units in accounts),
                reference=f"estate {number}",
                reason="the estate",
                rail=Rail.CARD,
            )
            await post_to_tenant(session, posting)
        await document_advances(session, tenant_id)


async def _run(database: Database) -> UUID:
    """Of the month before last, whatever it finds."""
    async with database.operator() as session:
        first = (await read_now(session)).date().replace(day=1)
        month = (first - timedelta(days=32)).replace(day=1)
        run = await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, month)
    await work_on(database, run.id, run.cut_off_at)
    return run.id


async def _invoice(database: Database, tenant_id: TenantId) -> None:
    async with database.operator() as session:
        cut_off_at = datetime.combine(await read_today(session) - _INVOICED_BEFORE, _AT)
        issued = await issue(session, tenant_id, cut_off_at=cut_off_at)
    if not issued:
        raise RuntimeError("nothing was invoiced")


async def _start(database: Database, scope: TenantScope, seal: SecretSeal) -> dict[str, str]:
    """A payment, a page for saving a card, and webhooks with a delivery."""
    async with database.tenant(scope) as session:
        asked = TopUp(net_nano=50 * NANO_PER_UNIT, method=Method.CARD, save=False)
        payment_id = await start_top_up(session, scope, asked, bounds=_BOUNDS, portal_url=_PORTAL)
        call_id = await start_setup(session, scope, portal_url=_PORTAL)
        orders = [
            EndpointOrder(url=f"https://{name}.million.example/hooks", kinds=CHOOSABLE, description=name)
            for name in ("first", "second", "third")
        ]
        made = [await webhooks.create_endpoint(session, scope, seal, one, to_loopback=False) for one in orders]
        await webhooks.send_test(session, scope, made[-1].endpoint)
    return {
        "payment_id": encode_id(PAYMENT, payment_id),
        "call_id": encode_id(PAYMENT_CALL, call_id),
        "webhook_id": encode_id(WEBHOOK, made[-1].endpoint.id),
    }
