"""The console's pages of invoices: what is done there is in the ledger once, what is wrong is said at its field."""

from datetime import date

import pytest
from sqlalchemy import text

from chappe_billing.invoice_runs.service import begin_run, work_on
from chappe_billing.ledger.postings import AccountKind
from chappe_kernel.ids import INVOICE_RUN, decode_id, encode_id
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.operators.service import OperatorRole
from tests.invoice_pages.conftest import EURO, Billing, figure, in_nano
from tests.organisations.world import Organisation
from tests.pages.browser import Visitor
from tests.portal.reading import Element, nano, read_page

PAYMENT = {"amount": "20", "reference": "bank 1", "rail": "bank_transfer"}
CREDIT = {"credit_reference": "case 1", "reason": "agreed", "lines": ""}


async def finance(billing: Billing) -> Visitor:
    return await billing.world.operator_visitor(OperatorRole.FINANCE)


async def read(billing: Billing, path: str = "", role: OperatorRole = OperatorRole.FINANCE) -> Element:
    answer = await (await billing.world.operator_visitor(role)).get(f"/console/invoices{path}")
    assert answer.status_code == 200, answer.text[:500]
    return read_page(answer.text)


async def post(billing: Billing, path: str, status: int, **fields: str) -> Element | str:
    """The page that comes back, or where it leads."""
    answer = await (await finance(billing)).post(f"/console/invoices{path}", **fields)
    assert answer.status_code == status, answer.text[:500]
    return str(answer.headers["location"]) if status == 303 else read_page(answer.text)


def rows_of(page: Element, table: str, buyer: Organisation) -> list[list[str]]:
    return [row for row in page.by_id(table).rows() if buyer.name in row] if page.has(table) else []


async def test_a_payment_is_recorded_once_for_its_reference(billing: Billing) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    gross = nano(figure(await read(billing, f"/{public}"), "gross"))
    fields = {**PAYMENT, "reference": f"bank {public}"}
    for told in ("The payment is recorded", "was recorded before"):
        assert await post(billing, f"/{public}/payments", 303, **fields) == f"/console/invoices/{public}"
        page = await read(billing, f"/{public}")
        assert told in page.text
        assert nano(figure(page, "open")) == gross - 20 * EURO == -await billing.ledger(buyer, AccountKind.RECEIVABLE)
    assert (await read(billing, f"/{public}")).by_id("state").text == "Partly settled"
    ((_, _, _, _, left),) = rows_of(await read(billing), "open-table", buyer)
    api = await (await billing.world.operator(OperatorRole.FINANCE)).get(f"/operator/invoices/{public}")
    assert nano(left) == in_nano(api["invoice"]["open"]) == gross - 20 * EURO
    taken = await post(billing, f"/{public}/payments", 409, **{**fields, "amount": "21"})
    assert isinstance(taken, Element) and "something else" in taken.by_id("reference-error").text
    await billing.verify()


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount", ""), ("amount", "0"), ("amount", "ten"), ("amount", "-1"), ("reference", " "), ("rail", "barter")],
)
async def test_what_is_wrong_with_a_payment_is_said_at_its_field(billing: Billing, field: str, value: str) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    owed = await billing.ledger(buyer, AccountKind.RECEIVABLE)
    page = await post(billing, f"/{public}/payments", 400, **{**PAYMENT, "reference": f"b {public}", field: value})
    assert isinstance(page, Element) and page.by_id(f"{field}-error").text
    assert page.by_id("pay-form").by_id("amount").attributes["value"] == (value if field == "amount" else "20")
    assert not page.has("credit_reference-error"), "the other form is as it was"
    assert await billing.ledger(buyer, AccountKind.RECEIVABLE) == owed


async def test_an_invoice_is_taken_back_with_its_reason(billing: Billing) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    fields = {**CREDIT, "credit_reference": f"case {public}"}
    for field, value in (("reason", " "), ("credit_reference", ""), ("lines", "one"), ("lines", "99")):
        page = await post(billing, f"/{public}/credit-notes", 400, **{**fields, field: value})
        assert isinstance(page, Element) and page.by_id(f"{field}-error").text and not page.has("amount-error")
    target = await post(billing, f"/{public}/credit-notes", 303, **fields)
    assert isinstance(target, str)
    note = await read(billing, target.removeprefix("/console/invoices"))
    assert "agreed" in note.by_id("about").text and not note.has("pay-form") and not note.has("credit-form")
    assert note.by_id("takes-back").one("a").attributes["href"] == f"/console/invoices/{public}"
    page = await read(billing, f"/{public}")
    assert page.by_id("taken-back-by").one("a").attributes["href"] == target
    assert page.by_id("state").text == "Settled" and await billing.ledger(buyer, AccountKind.RECEIVABLE) == 0
    own = await buyer.read(target.removeprefix("/console"))
    assert own.by_id("takes-back").one("a").attributes["href"] == f"/invoices/{public}"
    again = await post(billing, f"/{public}/credit-notes", 409, **{**fields, "credit_reference": f"2nd {public}"})
    assert isinstance(again, Element) and "Nothing is left" in again.by_id("credit-form").text
    await billing.verify()


async def test_what_is_on_no_invoice_is_the_ledgers_and_invoiced_from_there(billing: Billing) -> None:
    buyer = await billing.buyer()
    await billing.use(buyer)
    before = await billing.ledger(buyer, AccountKind.TENANT_FUNDS)
    ((_, charged, *_),) = rows_of(await read(billing), "unbilled-table", buyer)
    assert nano(charged) == EURO - before, "a euro was given"
    assert await post(billing, f"/issue/{buyer.public_id}", 303) == "/console/invoices"
    page = await read(billing)
    ((number, *_),) = rows_of(page, "open-table", buyer)
    assert f"Issued: {number.split(' ')[0]}" in page.text and not rows_of(page, "unbilled-table", buyer)
    assert [row[0] for row in rows_of(page, "newest-table", buyer)] == [number.split(" ")[0]]
    undecided = await billing.buyer(country=None)
    await billing.use(undecided)
    await post(billing, f"/issue/{undecided.public_id}", 303)
    page = await read(billing)
    assert "How it is taxed is not decided" in page.text and rows_of(page, "unbilled-table", undecided)


async def test_overdue_invoices_are_shown_alone(billing: Billing) -> None:
    late, punctual = await billing.buyer(), await billing.buyer()
    for buyer in (late, punctual):
        await billing.invoice(buyer)
    # Around the rule that nothing changes an invoice.
    async with billing.world.control.engine.connect() as connection:
        await connection.execute(text("SET session_replication_role = replica"))
        for table in ("invoice", "invoice_open"):
            change = text(f"UPDATE {table} SET due_on = '2026-01-01' WHERE tenant_id = :id")
            await connection.execute(change, {"id": late.id})
        await connection.commit()
    page = await read(billing, "?overdue=1")
    assert rows_of(page, "open-table", late) and not rows_of(page, "open-table", punctual)
    everything = await read(billing)
    assert rows_of(everything, "open-table", late) and rows_of(everything, "open-table", punctual)


async def test_a_run_and_its_log_are_the_apis(billing: Billing) -> None:
    buyer, undecided = await billing.buyer(), await billing.buyer(country=None)
    for one in (buyer, undecided):
        await billing.fee(one, 30 * EURO)
    async with billing.world.control.engine.connect() as connection:
        await connection.execute(text("SET session_replication_role = replica"))
        await connection.execute(
            text("UPDATE ledger_transaction SET created_at = '2026-01-15' WHERE tenant_id IN (:a, :b)"),
            {"a": buyer.id, "b": undecided.id},
        )
        await connection.commit()
    target = await post(billing, "/runs", 303, month="2026-01", legal_entity_id="")
    assert isinstance(target, str) and await post(billing, "/runs", 303, month="2026-01") == target, "there is one"
    run_id = target.rsplit("/", 1)[1]
    ((cut_off_at,),) = await billing.world.sql(
        "SELECT cut_off_at FROM invoice_run WHERE id = $1", decode_id(INVOICE_RUN, run_id)
    )
    await work_on(billing.world.control.database, decode_id(INVOICE_RUN, run_id), cut_off_at)
    api = await billing.world.operator(OperatorRole.FINANCE)
    said = await api.get(f"/operator/invoice-runs/{run_id}")
    page = await read(billing, f"/runs/{run_id}?outcome=issued")
    for name in ("issued", "nothing", "later", "waiting"):
        assert int(figure(page, f"count-{name}")) == said[name]
    assert said["issued"] >= 1 and said["later"] >= 1
    ((_, outcome, invoices, *_),) = rows_of(page, "log-table", buyer)
    assert (outcome, invoices) == ("Issued", "1") and not rows_of(page, "log-table", undecided)
    later = await read(billing, f"/runs/{run_id}?outcome=later")
    ((_, outcome, _, reason, _),) = rows_of(later, "log-table", undecided)
    assert outcome == "Left for later" and "not decided" in reason and "tax_undecided" in reason
    links = [link.attributes["href"] for link in later.by_id("log-table").all("a")]
    assert f"/console/tenants/{undecided.public_id}" in links
    rows = {row[0]: row for row in (await read(billing)).by_id("runs-table").rows()}
    _, _, issued, nothing, left, waiting, made, _ = rows["January 2026"]
    counts = [int(count) for count in (issued, nothing, left, waiting, made)]
    assert counts == [said[name] for name in ("issued", "nothing", "later", "waiting", "invoices")]


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"month": "soon"}, 400, "month"),
        ({"month": "2099-01"}, 409, "month"),
        ({"month": "2026-01", "legal_entity_id": "ent_nobody"}, 400, "legal_entity_id"),
    ],
)
async def test_what_is_wrong_with_a_run_is_said_at_its_field(
    billing: Billing, fields: dict[str, str], status: int, field: str
) -> None:
    page = await post(billing, "/runs", status, **fields)
    assert isinstance(page, Element) and page.by_id(f"{field}-error").text


@pytest.mark.parametrize("role", OperatorRole)
async def test_only_treasurers_are_offered_the_forms(billing: Billing, role: OperatorRole) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    visitor = await billing.world.operator_visitor(role)
    may = role in {OperatorRole.ADMINISTRATOR, OperatorRole.FINANCE}
    async with billing.world.control.database.operator() as session:
        run = await begin_run(session, DEFAULT_LEGAL_ENTITY_ID, date(2026, 2, 1))
    answer = await visitor.get(f"/console/invoices/runs/{encode_id(INVOICE_RUN, run.id)}")
    assert answer.status_code == (403 if role is OperatorRole.SUPPORT else 200)
    for path, form in (("", "begin-form"), (f"/{public}", "pay-form"), (f"/{public}", "credit-form")):
        answer = await visitor.get(f"/console/invoices{path}")
        assert answer.status_code == (403 if role is OperatorRole.SUPPORT else 200)
        assert read_page(answer.text).has(form) is may
    for path, fields in ((f"/{public}/payments", PAYMENT), (f"/{public}/credit-notes", CREDIT), ("/runs", {})):
        if not may:
            assert (await visitor.post(f"/console/invoices{path}", **fields)).status_code == 403


@pytest.mark.parametrize("language", ["fr", "de"])
async def test_it_is_there_in_every_language(billing: Billing, language: str) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    visitor = billing.world.visitor(language)
    await visitor.console_sign_in("finance@operator.example")
    for path in ("", f"/{public}"):
        page = read_page((await visitor.get(f"/console/invoices{path}")).text)
        assert page.one("html").attributes["lang"] == language and "Record" not in page.one("main").text
