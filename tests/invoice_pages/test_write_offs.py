"""Writing an invoice off in the console: asked twice, done once, seen by its tenant, asked for by nobody."""

import pytest

from chappe_billing.ledger.postings import AccountKind
from chappe_kernel.ids import LEDGER_TRANSACTION, encode_id
from chappe_tenants.operators.service import OperatorRole
from tests.invoice_pages.conftest import EURO, Billing, figure, in_nano
from tests.portal.reading import Element, nano, read_page

LOSS = {"loss": "", "loss_reason": "insolvent", "confirmed": "on"}


async def read(billing: Billing, public: str) -> Element:
    visitor = await billing.world.operator_visitor(OperatorRole.FINANCE)
    answer = await visitor.get(f"/console/invoices/{public}")
    assert answer.status_code == 200
    return read_page(answer.text)


async def post(billing: Billing, public: str, status: int, **fields: str) -> Element | None:
    visitor = await billing.world.operator_visitor(OperatorRole.FINANCE)
    answer = await visitor.post(f"/console/invoices/{public}/write-offs", **fields)
    assert answer.status_code == status, answer.text
    return None if status == 303 else read_page(answer.text)


async def test_an_invoice_is_written_off_once_and_its_tenant_sees_it(billing: Billing) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    gross = nano(figure(await read(billing, public), "gross"))
    fields = {**LOSS, "loss_reference": f"loss {public}", "reclaims_tax": "on"}
    for told in ("It is written off", "was written off before"):
        await post(billing, public, 303, **fields)
        page = await read(billing, public)
        assert told in page.text and page.by_id("state").text == "Written off"
        assert nano(figure(page, "written-off")) == gross and not page.has("write-off-form")
    assert await billing.ledger(buyer, AccountKind.RECEIVABLE) == 0
    own = await buyer.read(f"/invoices/{public}")
    assert "Nobody asks you for it" in own.by_id("written-off").text and own.by_id("state").text == "Written off"
    api = await (await billing.world.operator(OperatorRole.FINANCE)).get(f"/operator/invoices/{public}")
    assert in_nano(api["invoice"]["written_off"]) == gross and in_nano(api["invoice"]["open"]) == 0
    await billing.verify()


async def test_a_part_is_written_off_and_taken_back_by_the_api(billing: Billing) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    gross = nano(figure(await read(billing, public), "gross"))
    await post(billing, public, 303, **{**LOSS, "loss": "1,50", "loss_reference": f"part {public}"})
    page = await read(billing, public)
    assert nano(figure(page, "open")) == gross - 3 * EURO // 2 and page.has("write-off-form")
    ((transaction,),) = await billing.world.sql(
        "SELECT id FROM ledger_transaction WHERE tenant_id = $1 AND kind = 'write_off'", buyer.id
    )
    finance = await billing.world.operator(OperatorRole.FINANCE)
    named = encode_id(LEDGER_TRANSACTION, transaction)
    path = f"/operator/tenants/{buyer.public_id}/transactions/{named}/reversal"
    said = {"reference": f"back {public}", "reason": "it paid"}
    other = await billing.buyer()
    await finance.post(f"/operator/tenants/{other.public_id}/transactions/{named}/reversal", said, 404)
    assert [(await finance.post(path, said, 201))["repeated"] for _ in range(2)] == [False, True]
    page = await read(billing, public)
    assert nano(figure(page, "open")) == gross and not page.has("written-off")
    await billing.verify()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("loss", value) for value in ("0", "ten", "-1", "999999")),
        *(("loss_reason", " "), ("loss_reference", ""), ("confirmed", "")),
    ],
)
async def test_what_is_wrong_with_a_write_off_is_said_at_its_field(billing: Billing, field: str, value: str) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    owed = await billing.ledger(buyer, AccountKind.RECEIVABLE)
    page = await post(billing, public, 400, **{**LOSS, "loss_reference": f"loss {public}", field: value})
    assert page is not None and page.by_id(f"{field}-error").text
    assert not page.has("amount-error") and not page.has("reason-error"), "the other forms are as they were"
    assert await billing.ledger(buyer, AccountKind.RECEIVABLE) == owed


@pytest.mark.parametrize("role", [OperatorRole.SUPPORT, OperatorRole.AUDITOR])
async def test_only_treasurers_write_off(billing: Billing, role: OperatorRole) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    visitor = await billing.world.operator_visitor(role)
    answer = await visitor.post(f"/console/invoices/{public}/write-offs", **LOSS, loss_reference="x")
    assert answer.status_code == 403
