"""The portal's pages of invoices say what the API and the ledger say, of one's own invoices alone."""

import pytest

from chappe_billing.documents.service import render_all
from chappe_billing.ledger.postings import AccountKind
from chappe_control.portal.invoices import routes
from chappe_kernel.ids import INVOICE, encode_id, new_id
from tests.invoice_pages.conftest import Billing, figure, in_nano
from tests.portal.reading import nano, read_page


async def test_the_preview_is_the_apis_and_says_what_it_is_made_of(billing: Billing) -> None:
    buyer = await billing.buyer()
    assert "Nothing is waiting" in (await buyer.read("/invoices")).by_id("preview").text
    await billing.use(buyer)
    page = await buyer.read("/invoices")
    (said,) = (await buyer.api.get("/invoices/preview"))["items"]
    for name in ("net", "tax", "gross"):
        assert nano(figure(page, f"preview-{name}-1")) == in_nano(said[name]) > 0
    rows = {row[0]: row for row in page.by_id("preview-table-1").rows()}
    assert {line["project"] for line in said["lines"]} == {"default"} and len(said["lines"]) > 1
    assert rows["default"][1] == str(len(said["lines"]))
    assert nano(rows["default"][2]) == sum(in_nano(line["net"]) for line in said["lines"])
    assert nano(rows["Credit"][2]) == -in_nano(said["allowances"][0]["net"])
    assert sum(nano(row[2]) for row in rows.values()) == in_nano(said["net"])


async def test_an_invoice_is_shown_as_the_api_has_it_and_open_as_the_ledger_has_it(billing: Billing) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    (row,) = (await buyer.read("/invoices")).by_id("invoices-table").rows()
    said = await buyer.api.get(f"/invoices/{public}")
    gross = in_nano(said["invoice"]["gross"])
    assert (row[0], row[1], row[6]) == (said["invoice"]["number"], "Invoice", "Open")
    assert nano(row[4]) == nano(row[5]) == gross == -await billing.ledger(buyer, AccountKind.RECEIVABLE)
    page = await buyer.read(f"/invoices/{public}")
    assert said["invoice"]["number"] in page.one("h1").text
    assert "Paris" in page.by_id("seller").text and buyer.name in page.by_id("buyer").text
    for name in ("net", "tax", "gross", "due"):
        assert nano(figure(page, f"total-{name}")) == in_nano(said["content"][name])
    lines = {row[0]: row for row in page.by_id("lines-table").rows() if len(row) == 5}
    for number, line in enumerate(said["content"]["lines"], start=1):
        found = lines[str(number)]
        assert (found[1], found[2].replace(",", "")) == (line["description"], str(line["quantity"]))
        assert nano(found[3].split(" ")[0]) == in_nano(line["unit_price"])
        assert nano(found[4]) == in_nano(line["net"])
    (tax,) = page.by_id("tax-table").rows()
    assert (tax[0], nano(tax[3])) == ("20%", in_nano(said["content"]["taxes"][0]["tax"]))
    assert "is open, to be paid by" in page.by_id("open").text
    await billing.verify()


async def test_documents_are_being_made_and_then_there_to_keep(billing: Billing) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    assert (await buyer.read(f"/invoices/{public}")).has("being-made")
    await render_all(billing.world.control.database)
    page = await buyer.read(f"/invoices/{public}")
    assert not page.has("being-made")
    links = [link.attributes["href"] for link in page.all("a") if "/document." in link.attributes["href"]]
    assert links == [f"/api/v1/invoices/{public}/document.{kind}" for kind in ("pdf", "xml")]
    for link, begins in zip(links, (b"%PDF-", b"<?xml"), strict=True):
        answer = await buyer.visitor.get(link)
        assert answer.status_code == 200 and answer.content.startswith(begins)
        assert answer.headers["content-disposition"].startswith("attachment")


async def test_another_tenants_invoice_is_not_found_by_id_or_number(billing: Billing) -> None:
    buyer, other = await billing.buyer(), await billing.buyer()
    public = await billing.invoice(buyer)
    number = (await buyer.api.get(f"/invoices/{public}"))["invoice"]["number"]
    await buyer.read(f"/invoices/{number}")
    for name in (public, number, encode_id(INVOICE, new_id()), "nothing"):
        await other.read(f"/invoices/{name}", 404)
    assert "No invoice yet" in (await other.read("/invoices")).by_id("invoices").text


async def test_it_says_why_there_is_no_preview_and_shows_the_rest(billing: Billing) -> None:
    buyer = await billing.buyer(country=None)
    await billing.use(buyer)
    page = await buyer.read("/invoices")
    assert "How you are taxed is not decided yet" in page.by_id("no-preview").text
    assert (await buyer.api.get("/invoices/preview", 409))["code"] == "tax_undecided"


async def test_older_invoices_are_on_the_next_page(billing: Billing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_SHOWN", 1)
    buyer = await billing.buyer()
    ids = [await billing.invoice(buyer) for _ in range(2)]
    page = await buyer.read("/invoices")
    seen, following = [], [""]
    for _ in ids:
        (row,) = page.by_id("invoices-table").all("tbody")[0].all("tr")
        seen.append(row.one("a").attributes["href"].rsplit("/", 1)[1])
        following = [link.attributes["href"] for link in page.by_id("invoices").all("a") if link.text == "Next page"]
        if following:
            page = await buyer.read(following[0] if following[0].startswith("/") else f"/invoices{following[0]}")
    assert seen == ids[::-1] and not following
    await buyer.read("/invoices?cursor=nonsense", 400)


@pytest.mark.parametrize("language", ["fr", "de"])
async def test_it_is_there_in_every_language(billing: Billing, language: str) -> None:
    buyer = await billing.buyer()
    public = await billing.invoice(buyer)
    buyer.visitor.language = language
    for path in ("/invoices", f"/invoices/{public}"):
        page = read_page((await buyer.visitor.get(path)).text)
        assert page.one("html").attributes["lang"] == language
        assert "Open" not in page.one("main").text
