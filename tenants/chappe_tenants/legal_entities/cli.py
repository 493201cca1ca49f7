"""`chappe legal-entity`: who the operator is in law, before anybody can sign in to say it."""

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.ids import LEGAL_ENTITY, decode_id, encode_id
from chappe_kernel.process import prepare_process
from chappe_store.commands import as_operator
from chappe_tenants.legal_entities.models import DEFAULT_LEGAL_ENTITY_ID, Payments
from chappe_tenants.legal_entities.service import Identity, identify, identify_if_unsaid, view_entity
from chappe_tenants.organisations.details import Address


@click.group("legal-entity")
def legal_entity() -> None:
    """Who the operator's companies are in law."""
    prepare_process("legal-entity")


@legal_entity.command("set")
@click.option("--id", "entity", default=encode_id(LEGAL_ENTITY, DEFAULT_LEGAL_ENTITY_ID), help="By default the first.")
@click.option("--name", help="As it stands on what it sends.")
@click.option("--country", help="ISO 3166-1, like FR.")
@click.option("--vat-number", help="With the country's letters.")
@click.option("--registration", help="Where it is registered, and under which number.")
@click.option("--currency", help="Of its books, ISO 4217: only before it has sold to anybody.")
@click.option("--street", help="The first line of its address; --city and --country go with it.")
@click.option("--postal-code", help="Of its address.")
@click.option("--city", help="Of its address.")
@click.option("--payments", type=click.Choice([*map(str, Payments)]), help="How it collects what its customers owe.")
@click.option("--if-unsaid", is_flag=True, help="Change nothing if somebody has already said who it is.")
def set_(
    entity: str,
    *,
    street: str | None,
    postal_code: str | None,
    city: str | None,
    payments: str | None,
    if_unsaid: bool,
    **said: str | None,
) -> None:
    """Say who a legal entity is: by default the one that every instance begins with. What is left out stays; safe to
    repeat. Prints it as the API shows it."""
    address = _address(street, postal_code, city, said["country"])
    identity = Identity(address=address, payments=Payments(payments) if payments else None, **said)
    entity_id = decode_id(LEGAL_ENTITY, entity)

    async def work(session: AsyncSession) -> bytes:
        say = identify_if_unsaid if if_unsaid else identify
        return msgspec.json.encode(await view_entity(session, await say(session, entity_id, identity)))

    click.echo(as_operator(work).decode())


def _address(street: str | None, postal_code: str | None, city: str | None, country: str | None) -> Address | None:
    if street is None and postal_code is None and city is None:
        return None
    if street is None or city is None or country is None:
        raise click.UsageError("an address is --street, --city and --country, with --postal-code where there is one")
    return Address(line_1=street, postal_code=postal_code, city=city, country=country)
