"""What paths name, made anew for whoever asks: things of Alpha's, of the operator's, of a region's."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import msgspec
from sqlalchemy import select, text

from chappe_billing.discrepancies.queries import list_newest
from chappe_billing.documents.models import Paper
from chappe_billing.documents.queries import Unrendered, insert_documents, put_refusal
from chappe_billing.dunning.service import pause
from chappe_billing.feed.queries import read_last_batch
from chappe_billing.feed.service import close_batch
from chappe_billing.funds.service import post_to_tenant
from chappe_billing.invoicing.service import issue
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_billing.ledger.service import new_transaction_id
from chappe_billing.prices.service import publish_price
from chappe_billing.quarantine.queries import list_quarantined
from chappe_billing.tax.checking import note_new_numbers
from chappe_billing.tax.service import schedule_rate
from chappe_catalogue.listings.models import Listing
from chappe_catalogue.publishers.models import Publisher
from chappe_kernel.ids import (
    DISCREPANCY,
    INVITATION,
    INVOICE,
    MEMBER,
    PRICE_VERSION,
    PUBLISHER,
    REQUEST,
    TENANT,
    LegalEntityId,
    TenantId,
    decode_id,
    encode_id,
    new_id,
)
from chappe_kernel.money import NANO_PER_UNIT
from chappe_kernel.rating import Price
from chappe_store.session import TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.members.queries import list_members
from chappe_tenants.members.service import Role, put_member
from tests.access.world import AccessWorld, Caller, an_address, make_tenant, make_token, unlike
from tests.conftest import TESTS
from tests.control.world import CHAT
from tests.pages.browser import PASSWORD

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
RATE = {"country": "IS", "starts_on": "2090-01-01", "rate_percent": "24.5", "source": "a law"}
RAISE = {"requests_per_minute": 6000, "reason": "launch", "ends_at": f"{TOMORROW}T00:00:00Z"}

TERM = {"kind": "minimum", "first_month": "2090-01", "amount": "250.00"}
PAUSE = {"reason": "promised", "until": f"{TOMORROW}T00:00:00Z"}
DUNNING = {
    "enabled": True,
    "reminder_days": 3,
    "notice_days": [1, 8],
    "retry_days": [1],
    "suspend_days": None,
    "grace_days": 7,
}
WEBHOOK = {"url": "https://hooks.chappe.invalid/in", "kinds": ["balance.low"]}


async def no_webhook(access: AccessWorld) -> dict[str, str]:
    """There is room for one more."""
    async with access.control.engine.connect() as connection:
        await connection.exec_driver_sql("UPDATE webhook_endpoint SET removed_at = now()")
    return {}


async def a_webhook(access: AccessWorld) -> dict[str, str]:
    await no_webhook(access)
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/webhooks", WEBHOOK)
    return {"webhook_id": made["webhook"]["id"]}


async def a_delivery(access: AccessWorld) -> dict[str, str]:
    """That was given up."""
    webhook = await a_webhook(access)
    made = await access.made(Caller.MANAGEMENT_KEY, f"/api/v1/webhooks/{webhook['webhook_id']}/test", {})
    async with access.control.engine.connect() as connection:
        await connection.exec_driver_sql(
            "UPDATE webhook_delivery SET state = 'failed', ended_at = now() WHERE state = 'waiting'"
        )
    return {**webhook, "delivery_id": made["id"]}


async def a_paused_tenant(access: AccessWorld) -> dict[str, str]:
    tenant = await a_tenant(access)
    async with access.control.database.operator() as session:
        until = datetime.now(UTC) + timedelta(days=3)
        await pause(session, TenantId(decode_id(TENANT, tenant["tenant_id"])), reason="promised", until=until)
    return tenant


async def a_key(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/keys", {"name": unlike("key")})
    return {"key_id": made["id"]}


async def a_member(access: AccessWorld) -> dict[str, str]:
    """Alpha's, and no owner."""
    scope, email = TenantScope(access.alpha.id), an_address()
    async with access.control.database.operator() as session:
        await put_member(session, scope, email=email, password=PASSWORD, role=Role.DEVELOPER)
        (member,) = await list_members(session, scope, limit=1, before=None)
    return {"member_id": encode_id(MEMBER, member.id)}


async def an_invitation(access: AccessWorld) -> dict[str, str]:
    """Sent long enough ago to be sent again."""
    made = await access.made(Caller.OWNER, "/api/v1/invitations", {"email": an_address(), "role": "viewer"})
    async with access.control.engine.connect() as connection:
        await connection.exec_driver_sql(
            "UPDATE invitation SET sent_at = sent_at - interval '1 hour' WHERE id = $1",
            (decode_id(INVITATION, made["id"]),),
        )
    return {"invitation_id": made["id"]}


async def a_project(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/projects", {"name": unlike("project")})
    return {"project_id": made["id"]}


async def a_service_account(access: AccessWorld) -> dict[str, str]:
    """With its project, for pages that name both."""
    project = await a_project(access)
    body = {**project, "name": unlike("program"), "scopes": ["inference"]}
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/service-accounts", body)
    return {**project, "service_account_id": made["id"]}


async def a_quota(access: AccessWorld) -> dict[str, str]:
    """Of a project of Alpha's."""
    body = {**await a_project(access), "requests_per_minute": 4}
    return {"quota_id": (await access.made(Caller.MANAGEMENT_KEY, "/api/v1/quotas", body))["id"]}


async def no_own_quota(access: AccessWorld) -> dict[str, str]:
    """No organisation has limited itself."""
    async with access.control.engine.connect() as connection:
        await connection.exec_driver_sql("DELETE FROM quota WHERE level = 'tenant'")
    return {}


async def a_contracts_quota(access: AccessWorld) -> dict[str, str]:
    tenant = await a_tenant(access)
    path = f"/api/v1/operator/tenants/{tenant['tenant_id']}/quotas"
    made = await access.made(Caller.ADMINISTRATOR, path, {"model": CHAT, "requests_per_minute": 50})
    return {**tenant, "quota_id": made["id"]}


async def a_raise(access: AccessWorld) -> dict[str, str]:
    tenant = await a_tenant(access)
    path = f"/api/v1/operator/tenants/{tenant['tenant_id']}/quota-raises"
    return {**tenant, "raise_id": (await access.made(Caller.ADMINISTRATOR, path, RAISE))["id"]}


async def a_plan(access: AccessWorld) -> dict[str, str]:
    body = {"name": unlike("plan").replace(" ", "-"), "title": "Plan"}
    return {"plan": (await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/plans", body))["name"]}


async def a_tenant(access: AccessWorld) -> dict[str, str]:
    tenant = await make_tenant(access.control, unlike("tenant"))
    return {"tenant_id": encode_id(TENANT, tenant.id)}


async def a_checked_tenant(access: AccessWorld) -> dict[str, str]:
    """With a VAT number that nobody has answered about."""
    tenant = await make_tenant(access.control, unlike("tenant"))
    async with access.control.database.operator() as session:
        await session.execute(
            text("UPDATE tenant SET country = 'DE', vat_number = 'DE123456789' WHERE id = :id"), {"id": tenant.id}
        )
    await note_new_numbers(access.control.database)
    return {"tenant_id": encode_id(TENANT, tenant.id)}


async def a_scheduled_rate(access: AccessWorld) -> dict[str, str]:
    """Of Iceland's, from a day on that nobody else has drawn."""
    starts_on = date(2100, 1, 1) + timedelta(days=new_id().int % 100_000)
    async with access.control.database.operator() as session:
        await schedule_rate(session, country="IS", starts_on=starts_on, rate_bp=2450, source="a law")
    return {"country": "IS", "starts_on": starts_on.isoformat()}


async def an_invoice_with_documents(access: AccessWorld) -> dict[str, str]:
    """Alpha's, with its documents."""
    invoice_id = new_id()
    papers = {Paper.PDF: b"%PDF-", Paper.XML: b"<x/>"}
    async with access.control.database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO invoice (id, kind, legal_entity_id, tenant_id, currency, minor_digits, series, ordinal, "
                "number, issued_on, cut_off_at, net_minor, tax_minor, gross_minor, content) SELECT :id, 'invoice', "
                "legal_entity_id, id, currency, 2, :series, 1, :series, DATE '2026-11-01', now(), 1, 0, 1, '{}' "
                "FROM tenant WHERE id = :tenant"
            ),
            {"id": invoice_id, "series": unlike("access"), "tenant": access.alpha.id},
        )
        of = Unrendered(invoice_id, access.alpha.id, {})
        await insert_documents(
            session, of, papers, renderer="tests", keep_until=datetime(2037, 1, 1, tzinfo=UTC).date()
        )
    return {"invoice_id": encode_id(INVOICE, invoice_id)}


async def a_refused_invoice(access: AccessWorld) -> dict[str, str]:
    """Alpha's, without a document because of a rule."""
    made = await an_invoice(access)
    async with access.control.database.operator(TESTS) as session:
        await put_refusal(session, decode_id(INVOICE, made["invoice_id"]), "tests", ("BR-CO-16: Amount due",))
    return made


async def a_customer(access: AccessWorld) -> dict[str, str]:
    """Of Alpha's, which is made a reseller for it."""
    await _make_reseller(access)
    made = await access.made(Caller.MANAGEMENT_KEY, "/api/v1/customers", {"name": unlike("customer")})
    return {"customer_id": made["id"]}


async def nothing_but_a_reseller(access: AccessWorld) -> dict[str, str]:
    """No thing: Alpha may have customers afterwards."""
    await _make_reseller(access)
    return {}


async def _make_reseller(access: AccessWorld) -> None:
    async with access.control.database.operator() as session:
        await session.execute(text("UPDATE tenant SET is_reseller = true WHERE id = :id"), {"id": access.alpha.id})


async def a_top_up(access: AccessWorld) -> dict[str, str]:
    tenant = await a_tenant(access)
    path = f"/api/v1/operator/tenants/{tenant['tenant_id']}/transactions"
    body = {"kind": "top_up", "amount": "7", "reference": unlike("bank")}
    made = await access.made(Caller.ADMINISTRATOR, path, body)
    return {**tenant, "transaction_id": made["transaction_id"]}


async def a_payment_in_suspense(access: AccessWorld) -> dict[str, str]:
    body = {"amount": "7", "reference": unlike("bank")}
    made = await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/suspense", body)
    return {"payment_id": made["transaction_id"]}


async def a_publisher(access: AccessWorld) -> dict[str, str]:
    """Who is owed something: its share of a request of Alpha's."""
    async with access.control.database.operator() as session:
        await session.execute(text("UPDATE listing SET publisher_share_bp = 5000"))
    await a_request(access)
    async with access.control.database.audit() as session:
        publisher_id = await session.scalar(text("SELECT publisher_id FROM publisher_share ORDER BY 1 DESC LIMIT 1"))
    return {"publisher_id": encode_id(PUBLISHER, publisher_id)}


async def a_publishers_month(access: AccessWorld) -> dict[str, str]:
    return {**await a_publisher(access), "month": "2026-11"}


async def a_payout(access: AccessWorld) -> dict[str, str]:
    publisher = await a_publisher(access)
    path = f"/api/v1/operator/publishers/{publisher['publisher_id']}/payouts"
    body = {"amount": "0.000000001", "reference": unlike("bank")}
    made = await access.made(Caller.ADMINISTRATOR, path, body)
    return {**publisher, "transaction_id": made["transaction_id"]}


async def a_discrepancy(access: AccessWorld) -> dict[str, str]:
    """Of a request of Alpha's: the engine tells of fewer tokens later."""
    cell, key = access.cell(), access.alpha.keys["inference"]
    (event,) = await cell.use(key, await cell.lease(access.alpha.id))
    facts = await cell.resolve(key)
    assert facts is not None
    fewer = cell.event(facts, event.grant_id, event.price_version, event.counts.completion_tokens - 1)
    await cell.ship(msgspec.structs.replace(fewer, request_id=event.request_id))
    async with access.control.database.audit() as session:
        (found, *_) = await list_newest(session, resolved=False, limit=1)
    return {"discrepancy_id": encode_id(DISCREPANCY, found.id)}


async def a_quarantined_event(access: AccessWorld) -> dict[str, str]:
    """Of a request of Alpha's, under a key that nobody knows."""
    cell = access.cell()
    (event,) = await cell.use(access.alpha.keys["inference"], await cell.lease(access.alpha.id))
    await cell.ship(msgspec.structs.replace(event, request_id=new_id(), key_id=new_id()))
    async with access.control.database.audit() as session:
        (found, *_) = await list_quarantined(session, decided=False, limit=1)
    return {"request_id": encode_id(REQUEST, found.request_id), "digest": found.digest.hex()}


async def a_legal_entity(access: AccessWorld) -> dict[str, str]:
    body = {"name": unlike("Chappe"), "currency": "EUR"}
    return {"entity_id": (await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/legal-entities", body))["id"]}


async def a_token(access: AccessWorld) -> dict[str, str]:
    """An administrator's."""
    return {"token_id": (await make_token(access.doors[Caller.ADMINISTRATOR].visitor))["id"]}


async def a_request(access: AccessWorld) -> dict[str, str]:
    """One that ran in fr-par and was settled."""
    cell = access.cell()
    (event,) = await cell.use(access.alpha.keys["inference"], await cell.lease(access.alpha.id))
    return {"request_id": encode_id(REQUEST, event.request_id)}


async def a_grant(access: AccessWorld) -> dict[str, str]:
    """Budget that fr-par holds."""
    return {"grant_id": str(await access.cell().lease(access.alpha.id))}


_CHAINS: list[str] = []


async def a_batch(access: AccessWorld) -> dict[str, str]:
    """The feed's newest. The control plane closes some by itself."""
    await a_rated_usage(access)
    async with access.control.database.operator() as session:
        batch = await read_last_batch(session)
    assert batch is not None
    _CHAINS[:] = [batch.chain.hex()]
    return {"sequence": str(batch.sequence)}


def chain_of_the_batch() -> str:
    """What whoever has the newest batch knows of it."""
    return _CHAINS[0]


async def a_rated_usage(access: AccessWorld) -> dict[str, str]:
    """Of a closed batch."""
    request = await a_request(access)
    async with access.control.database.operator() as session:
        while await close_batch(session) is not None:
            pass
    return {"usage_id": request["request_id"]}


async def a_usage_specification(_: AccessWorld) -> dict[str, str]:
    return {"specification_id": "inference"}


async def an_asset(access: AccessWorld) -> dict[str, str]:
    page = (await access.http.get("/sign-in", headers={"host": "localhost:8400"})).text
    return {"name": page.split("/static/")[1].split('"')[0]}


async def no_request(_: AccessWorld) -> dict[str, str]:
    """One that nobody has settled, or that is not there: the playground cannot tell."""
    return {"request_id": encode_id(REQUEST, new_id())}


async def a_term(access: AccessWorld) -> dict[str, str]:
    """Of a new tenant's contract."""
    tenant = await a_tenant(access)
    path = f"/api/v1/operator/tenants/{tenant['tenant_id']}/contract-terms"
    return {**tenant, "term_id": (await access.made(Caller.ADMINISTRATOR, path, TERM))["id"]}


async def a_price(access: AccessWorld) -> dict[str, str]:
    """In force."""
    (first, *_) = await _prices_of_a_new_model(access, unlike("model").replace(" ", "-"), starts_in=())
    return {"price_version": first}


async def a_scheduled_price(access: AccessWorld) -> dict[str, str]:
    name = unlike("model").replace(" ", "-")
    return {"price_version": (await _prices_of_a_new_model(access, name, starts_in=(timedelta(days=1),)))[-1]}


async def a_wrong_price(access: AccessWorld) -> dict[str, str]:
    """In force, after another."""
    name = unlike("model").replace(" ", "-")
    return {"price_version": (await _prices_of_a_new_model(access, name, starts_in=(timedelta(0),)))[-1]}


async def a_price_draft(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/price-drafts", {"title": "New prices"})
    return {"draft_id": made["id"]}


async def a_simulated_draft(access: AccessWorld) -> dict[str, str]:
    """Of a model that nobody has used."""
    name = unlike("model").replace(" ", "-")
    await _prices_of_a_new_model(access, name, starts_in=())
    price = {"per_million_tokens": {"input": "0.1", "cached_input": "0", "output": "0.2"}}
    body = {"title": "New prices", "lines": [{"model": name, "region": "fr-par", "price": price}]}
    made = await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/price-drafts", body)
    path = f"/api/v1/operator/price-drafts/{made['id']}/simulations"
    assert (await access.call(Caller.ADMINISTRATOR, "POST", path, {})).status_code == 200
    return {"draft_id": made["id"]}


async def _prices_of_a_new_model(access: AccessWorld, name: str, starts_in: Sequence[timedelta]) -> list[str]:
    """Its first price, and one more at each of these times from now."""
    listing_id, ids = new_id(), []
    async with access.control.database.operator() as session:
        publisher_id = await session.scalar(select(Publisher.id).limit(1))
        bounds = {"context_tokens": 1, "template_tokens": 1, "default_output_tokens": 1, "max_output_tokens": 1}
        session.add(Listing(id=listing_id, name=name, publisher_id=publisher_id, task="chat", currency="EUR", **bounds))
        await session.flush()
        for number, wait in enumerate((None, *starts_in)):
            version_id = await publish_price(
                session,
                listing_id=listing_id,
                region="fr-par",
                currency="EUR",
                price=Price(number + 1, 1, 1),
                starts_at=None if not wait else datetime.now(UTC) + wait,
                notice=timedelta(0),
            )
            ids.append(encode_id(PRICE_VERSION, version_id))
    return ids


_FEE_NANO = 1000 * NANO_PER_UNIT


async def a_month(access: AccessWorld) -> dict[str, str]:
    """That is over."""
    return {"month": "2026-01"}


async def an_invoice(access: AccessWorld) -> dict[str, str]:
    """Of Alpha's, for a fee of more than it was given."""
    tenant_id = TenantId(access.alpha.id)
    entity = LegalEntityId(DEFAULT_LEGAL_ENTITY_ID)
    funds = Account(AccountKind.TENANT_FUNDS, "EUR", entity, tenant_id=tenant_id)
    lines = (Line(funds, -_FEE_NANO), Line(Account(AccountKind.REVENUE, "EUR", entity), _FEE_NANO))
    fee = Posting(new_transaction_id(), TransactionKind.MINIMUM_FEE, tenant_id, "EUR", lines, reference=unlike("fee"))
    async with access.control.database.operator(TESTS) as session:
        await post_to_tenant(session, fee)
        await session.execute(text("UPDATE legal_entity SET country = 'FR', postal_code = '75007'"))
        await session.execute(
            text("UPDATE tenant SET country = 'FR', postal_code = '69001' WHERE id = :id"), {"id": tenant_id}
        )
        await session.execute(text("UPDATE budget SET credit_limit_nano = 10 ^ 15"))
    async with access.control.database.operator(TESTS) as session:
        (issued,) = await issue(session, tenant_id)
    return {"invoice_id": encode_id(INVOICE, issued.id)}


async def an_invoice_run(access: AccessWorld) -> dict[str, str]:
    made = await access.made(Caller.ADMINISTRATOR, "/api/v1/operator/invoice-runs", {"month": "2026-01"})
    return {"run_id": made["id"]}
