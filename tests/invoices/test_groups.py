"""A group has one invoice with a section for each subsidiary, and a tenant may have one for each project."""

import pytest
from sqlalchemy import text

from chappe_billing.billing_profiles.service import ProfileChange, TermsChange, change_profile, change_terms
from chappe_billing.invoices.queries import list_documents
from chappe_billing.invoices.service import settle_invoice
from chappe_billing.invoicing.service import issue
from chappe_billing.ledger.postings import Rail
from chappe_kernel.errors import Conflict
from chappe_kernel.ids import ProjectId, new_id
from chappe_tenants.projects.models import Project
from tests.billing.conftest import Customer
from tests.invoices.conftest import CENT, EURO, MakeBuyer, Office


async def group_of(office: Office, buyer: MakeBuyer) -> tuple[Customer, Customer]:
    parent, child = await buyer(credit_nano=100 * EURO), await buyer(credit_nano=100 * EURO)
    await office.change(child, parent_id=parent.tenant_id, relation="subsidiary", name="Child")
    async with office.database.operator() as session:
        await change_terms(session, child.scope, TermsChange(billed_to=parent.tenant_id))
    return parent, child


async def test_a_subsidiary_stands_on_its_parents_invoice(office: Office, buyer: MakeBuyer) -> None:
    parent, child = await group_of(office, buyer)
    await office.use(parent, times=3)
    await office.use(child, times=5)
    with pytest.raises(Conflict, match="parent"):
        await office.issue(child)
    (invoice,) = await office.contents(parent)
    assert {line.section for line in invoice.lines} == {"Customer", "Child"}
    assert (invoice.net_minor, invoice.tax_minor) == (168, 34)
    async with office.database.tenant(parent.scope) as session:
        (listed,) = await list_documents(session, tenant_id=parent.tenant_id, limit=10)
    assert listed.open_nano == 202 * CENT
    async with office.database.tenant(child.scope) as session:
        assert await list_documents(session, tenant_id=parent.tenant_id, limit=10) == []
    await office.verify()


async def test_a_groups_payment_settles_each_part(office: Office, buyer: MakeBuyer) -> None:
    parent, child = await group_of(office, buyer)
    await office.use(parent, times=3)
    await office.use(child, times=5)
    (issued,) = await office.issue(parent)
    for repeated in (False, True):
        async with office.database.operator() as session:
            done = await settle_invoice(
                session, issued.id, amount_nano=210 * CENT, reference="one transfer", rail=Rail.BANK_TRANSFER
            )
        assert (done.settled_nano, done.over_nano, done.open_nano) == (202 * CENT, 8 * CENT, 0)
        assert done.repeated is repeated
    async with office.database.tenant(parent.scope) as session:
        (listed,) = await list_documents(session, tenant_id=parent.tenant_id, limit=10)
    assert listed.open_nano == 0
    assert await office.available(parent) == 1 + 8 * CENT
    assert await office.available(child) == 1
    await office.verify()


async def test_only_a_subsidiary_stands_on_anothers_invoice(office: Office, buyer: MakeBuyer) -> None:
    parent, child = await group_of(office, buyer)
    async with office.database.operator() as session:
        with pytest.raises(Conflict, match="subsidiary"):
            await change_terms(session, parent.scope, TermsChange(billed_to=child.tenant_id))


async def test_each_project_has_its_invoice(office: Office, buyer: MakeBuyer) -> None:
    customer = await buyer(40 * CENT, credit_nano=100 * EURO)
    other = ProjectId(new_id())
    key = new_id()
    async with office.database.operator() as session:
        session.add(Project(tenant_id=customer.tenant_id, id=other, name="research"))
        await session.flush()
        await session.execute(
            text(
                "INSERT INTO api_key (tenant_id, id, project_id, kind, name, prefix, pepper_version, digest) "
                "VALUES (:tenant, :key, :project, 'inference', 'key', 'ck_itest', 1, sha256(:secret))"
            ),
            {"tenant": customer.tenant_id, "key": key, "project": other, "secret": key.bytes},
        )
        await change_profile(session, customer.scope, ProfileChange(split_by_project=True, language="de"))
    await office.use(customer, times=3)
    await office.use(customer, times=5, project_id=other, key_id=key)
    async with office.database.operator() as session:
        issued = await issue(session, customer.tenant_id)
    contents = [await office.content(one.number) for one in issued]
    assert [{line.project for line in content.lines} for content in contents] == [{"research"}, {"default"}]
    assert [content.net_minor for content in contents] == [65, 63]
    assert contents[0].allowances[0].reason == "Guthaben"
    await office.verify()
