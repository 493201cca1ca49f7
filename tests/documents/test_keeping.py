"""An issued invoice's documents: made once, whoever tries; kept for ten years; the same when they are made again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from uuid import UUID

import asyncpg
import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from chappe_billing.documents import pdf, queries, service
from chappe_billing.documents.cii import render_xml
from chappe_billing.documents.content import DocumentContent
from chappe_billing.documents.models import InvoiceDocument, Paper
from chappe_billing.documents.queries import forget_refusal, list_refusals
from chappe_billing.documents.service import get_document, keep_until, render_all, verify_documents
from chappe_billing.invoices.models import Invoice
from chappe_billing.invoices.queries import find_head
from chappe_kernel.errors import Conflict, NotFound
from chappe_kernel.ids import TenantId, new_id
from chappe_store.session import Database, TenantScope
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from tests.conftest import DatabaseUrls, PostgresServer
from tests.documents.samples import invoice, outside
from tests.tax.conftest import MakeBuyer, buyer

__all__ = ["buyer"]
Issue = Callable[[TenantId, DocumentContent], Awaitable[UUID]]


@pytest.fixture
def issue(database: Database) -> Issue:
    async def issue(tenant_id: TenantId, content: DocumentContent) -> UUID:
        invoice_id = new_id()
        async with database.operator() as session:
            session.add(
                Invoice(
                    id=invoice_id,
                    kind=content.kind,
                    legal_entity_id=DEFAULT_LEGAL_ENTITY_ID,
                    tenant_id=tenant_id,
                    currency="EUR",
                    minor_digits=2,
                    series="test",
                    ordinal=invoice_id.int & 0xFFFFFFFF,
                    number=f"{content.number}-{invoice_id.hex}",
                    issued_on=content.issued_on,
                    cut_off_at=datetime(2026, 11, 1, tzinfo=UTC),
                    net_minor=content.net_minor,
                    tax_minor=content.tax_minor,
                    gross_minor=content.gross_minor,
                    content=msgspec.to_builtins(content),
                )
            )
        return invoice_id

    return issue


async def test_an_issued_invoice_gets_its_documents_once_whoever_renders(
    database: Database, buyer: MakeBuyer, issue: Issue
) -> None:
    tenant_id = await buyer(country="FR")
    contents = (invoice(), outside())
    issued = [await issue(tenant_id, content) for content in contents]
    async with database.tenant(TenantScope(tenant_id)) as session:
        with pytest.raises(Conflict) as raised:
            await get_document(session, issued[0], Paper.PDF)
    assert raised.value.code == "document_pending"
    assert sum(await asyncio.gather(render_all(database), render_all(database))) == len(contents)
    assert await render_all(database) == 0
    async with database.tenant(TenantScope(tenant_id)) as session:
        for invoice_id, content in zip(issued, contents, strict=True):
            number, xml = await get_document(session, invoice_id, Paper.XML)
            assert (xml, number.startswith("FR-2026-000042")) == (render_xml(content), True)
            assert (await get_document(session, invoice_id, Paper.PDF))[1].startswith(b"%PDF-")
    assert await verify_documents(database) == service.Verified(same=4, older=0)


async def test_another_tenants_documents_do_not_exist(database: Database, buyer: MakeBuyer, issue: Issue) -> None:
    mine, others = await buyer(country="FR"), await buyer(country="FR")
    invoice_id = await issue(mine, invoice())
    await render_all(database)
    async with database.tenant(TenantScope(others)) as session:
        with pytest.raises(NotFound):
            await get_document(session, invoice_id, Paper.PDF, tenant_id=others)
        assert (await session.scalars(select(InvoiceDocument))).all() == []
    async with database.operator() as session:
        head = await find_head(session, invoice_id)
        assert head is not None
        assert head.tenant_id == mine
        with pytest.raises(NotFound):
            await get_document(session, invoice_id, Paper.PDF, tenant_id=others)
        assert await get_document(session, invoice_id, Paper.PDF)


async def test_a_broken_invoice_has_no_document_and_an_operator_sees_why(
    database: Database, buyer: MakeBuyer, issue: Issue
) -> None:
    tenant_id = await buyer(country="FR")
    sound = invoice()
    broken = await issue(tenant_id, replace(sound, due_minor=sound.due_minor + 1))
    assert await render_all(database) == 0
    async with database.operator() as session:
        ((refusal, _, of),) = await list_refusals(session, limit=10)
        assert (refusal.invoice_id, of) == (broken, tenant_id)
        assert [finding.split(":")[0] for finding in refusal.findings] == ["BR-CO-16", "BR-CO-16"]
        with pytest.raises(Conflict):
            await get_document(session, broken, Paper.PDF)
        assert await queries.list_unrendered(session, pdf.RENDERER, limit=10) == []
        assert await forget_refusal(session, broken)
        assert len(await queries.list_unrendered(session, pdf.RENDERER, limit=10)) == 1


async def test_a_kept_document_is_never_changed_nor_deleted_before_its_time_is_over(
    database: Database, postgres: PostgresServer, database_urls: DatabaseUrls, buyer: MakeBuyer, issue: Issue
) -> None:
    assert keep_until(date(2026, 1, 1)) == keep_until(date(2026, 12, 31)) == date(2037, 1, 1)
    await issue(await buyer(country="FR"), invoice())
    await render_all(database)
    for statement in ("UPDATE invoice_document SET content = ''", "DELETE FROM invoice_document"):
        with pytest.raises(DBAPIError):
            async with database.operator() as session:
                await session.execute(text(statement))
        owner = await postgres.superuser(database_urls.name)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)
        await owner.close()
    assert await render_all(database) == 0
    assert (await verify_documents(database)).same == 2


async def test_what_is_over_is_deleted(
    database: Database, postgres: PostgresServer, database_urls: DatabaseUrls, buyer: MakeBuyer, issue: Issue
) -> None:
    await issue(await buyer(country="FR"), invoice())
    await render_all(database)
    owner = await postgres.superuser(database_urls.name)
    # As ten years would: only somebody who can take the lock away can move the date.
    await owner.execute("ALTER TABLE invoice_document DISABLE TRIGGER invoice_document_kept")
    await owner.execute("UPDATE invoice_document SET keep_until = current_date WHERE kind = 'xml'")
    await owner.execute("ALTER TABLE invoice_document ENABLE TRIGGER invoice_document_kept")
    await owner.close()
    async with database.operator() as session:
        assert await queries.delete_over(session) == 1
        assert await queries.delete_over(session) == 0


async def test_verification_finds_a_document_that_is_not_what_its_invoice_says(
    database: Database, postgres: PostgresServer, database_urls: DatabaseUrls, buyer: MakeBuyer, issue: Issue
) -> None:
    await issue(await buyer(country="FR"), invoice())
    await render_all(database)
    owner = await postgres.superuser(database_urls.name)
    await owner.execute("ALTER TABLE invoice_document DISABLE TRIGGER invoice_document_kept")
    await owner.execute(
        "UPDATE invoice_document SET content = content || 'x', sha256 = sha256(content || 'x') WHERE kind = 'pdf'"
    )
    await owner.close()
    found = await verify_documents(database)
    assert found.different is not None
    assert found.different.endswith(", pdf")


async def test_a_document_of_an_older_renderer_stays_as_it_is(
    database: Database, buyer: MakeBuyer, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await issue(await buyer(country="FR"), invoice())
    await render_all(database)
    monkeypatch.setattr(service, "RENDERER", "2 newer")
    assert await render_all(database) == 0
    assert await verify_documents(database) == service.Verified(same=0, older=2)
