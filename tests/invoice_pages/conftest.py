"""One database and one server for each module, whose seller is in France: the console's lists show everybody's."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
import pytest

from chappe_billing.audit.service import verify_ledger
from chappe_billing.funds.service import post_to_tenant
from chappe_billing.invoicing.service import issue
from chappe_billing.ledger.postings import Account, AccountKind, Line, Posting, TransactionKind
from chappe_billing.ledger.service import new_transaction_id
from chappe_kernel.ids import INVOICE, LegalEntityId, TenantId, encode_id, new_id
from chappe_kernel.wire.control import Grant
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID
from chappe_tenants.operators.service import OperatorRole, put_operator
from tests.conftest import PostgresServer
from tests.control.running import hashing_with, quick_hasher, running_control
from tests.control.world import CREDENTIALS, MANIFEST
from tests.organisations.world import Organisation, Organisations, address_of
from tests.pages.browser import PASSWORD
from tests.portal.reading import Element

EURO = 10**9
_ENTITY = LegalEntityId(DEFAULT_LEGAL_ENTITY_ID)


@dataclass(frozen=True)
class Billing:
    """Organisations that use, are charged and are invoiced."""

    world: Organisations

    async def buyer(self, country: str | None = "FR") -> Organisation:
        """With a credit limit that nothing here reaches; without a country nobody knows how it is taxed."""
        made = await self.world.organisation()
        await self.world.sql("UPDATE budget SET credit_limit_nano = 10 ^ 15 WHERE tenant_id = $1", made.id)
        if country is not None:
            await self.world.sql(
                "UPDATE tenant SET country = $2, postal_code = '69001' WHERE id = $1", made.id, country
            )
        return made

    async def use(self, buyer: Organisation, tokens: int = 100_000_000) -> None:
        """One request in its project, of this many output tokens."""
        cell = self.world.cell()
        facts = await cell.resolve(buyer.keys["inference"])
        assert facts is not None
        grant = msgspec.json.decode((await cell.ask(buyer.id, 100 * EURO)).content, type=Grant)
        event = cell.event(facts, grant.grant_id, await cell.price_version(), tokens)
        assert (await cell.ship(msgspec.structs.replace(event, hold_nano=10**15))).posted == 1

    async def fee(self, buyer: Organisation, amount_nano: int) -> None:
        """As a contract's month ends with one, without the contract: `verify` has something to say about it."""
        funds = Account(AccountKind.TENANT_FUNDS, "EUR", _ENTITY, tenant_id=buyer.id)
        lines = (Line(funds, -amount_nano), Line(Account(AccountKind.REVENUE, "EUR", _ENTITY), amount_nano))
        posting = Posting(
            new_transaction_id(), TransactionKind.MINIMUM_FEE, buyer.id, "EUR", lines, reference=f"fee {new_id()}"
        )
        async with self.world.control.database.operator() as session:
            await post_to_tenant(session, posting)

    async def invoice(self, buyer: Organisation) -> str:
        """Of what it uses now; its id as people see it."""
        await self.use(buyer)
        async with self.world.control.database.operator() as session:
            (issued,) = await issue(session, TenantId(buyer.id))
        return encode_id(INVOICE, issued.id)

    async def ledger(self, buyer: Organisation, kind: AccountKind) -> int:
        account = Account(kind, "EUR", _ENTITY, tenant_id=buyer.id).id
        ((total,),) = await self.world.sql(
            "SELECT coalesce(sum(amount_nano), 0)::bigint FROM ledger_entry WHERE account_id = $1", account
        )
        return int(total)

    async def verify(self) -> None:
        async with self.world.control.database.audit() as session:
            assert await verify_ledger(session) is None


@pytest.fixture(scope="module")
async def billing(postgres: PostgresServer) -> AsyncIterator[Billing]:
    with hashing_with(quick_hasher()):
        async with running_control(postgres, MANIFEST, CREDENTIALS) as control:
            async with control.database.operator() as session:
                for role in OperatorRole:
                    await put_operator(session, email=address_of(role), password=PASSWORD, role=role)
            world = Organisations(control)
            await world.sql(
                "UPDATE legal_entity SET country = 'FR', postal_code = '75007', city = 'Paris', "
                "vat_number = 'FR40303265045'"
            )
            yield Billing(world)


def figure(page: Element, name: str) -> str:
    """What a tile says."""
    return page.by_id(name).one("p", **{"class": "stat-value"}).text


def in_nano(amount: str) -> int:
    """As the API writes it, with all nine decimals."""
    return int(amount.replace(".", ""))
