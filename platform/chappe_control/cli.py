"""`chappe catalogue` and `chappe tenant`."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click
import msgspec

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.schemas import read_seed
from chappe_control.seeding.service import create_tenant, plant_seed
from chappe_control.settings import DatabaseSettings, SeedSettings
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import ChappeError, Invalid
from chappe_kernel.ids import TENANT, encode_id
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database
from chappe_tenants.peppers import parse_peppers

P = ParamSpec("P")

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_CREDENTIALS = "CHAPPE_REGION_CREDENTIALS"


def told_plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Expected errors end the command with their message and no traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ChappeError as error:
            raise click.ClickException(error.message) from error

    return wrapped


@click.group()
def catalogue() -> None:
    """Apply a catalogue of regions and models."""
    prepare_process("catalogue")


@catalogue.command()
@click.argument("file", type=_File)
@told_plainly
def apply(file: Path) -> None:
    """Make the database say what FILE says. Regions' credentials come from CHAPPE_REGION_CREDENTIALS."""
    settings = load_settings(DatabaseSettings, os.environ)
    manifest = read_manifest(file.read_bytes())
    credentials = _read_credentials()

    async def work(database: Database) -> None:
        async with database.operator() as session:
            await apply_catalogue(session, manifest, credentials)

    asyncio.run(_with_database(settings.database_url, work))
    click.echo(f"applied {len(manifest.listings)} listings in {len(manifest.regions)} regions")


@click.group()
def tenant() -> None:
    """Create tenants and their keys."""
    prepare_process("tenant")


@tenant.command()
@click.argument("file", type=_File)
@told_plainly
def seed(file: Path) -> None:
    """Make the tenant, keys and people that FILE lists; what exists stays. Prints the tenant's id."""
    settings = load_settings(SeedSettings, os.environ)
    wanted = read_seed(file.read_bytes())
    peppers = parse_peppers(settings.key_peppers)

    async def work(database: Database) -> None:
        async with database.operator() as session:
            tenant_id = await plant_seed(
                session, wanted, peppers=peppers, welcome_credit_nano=settings.welcome_credit_nano
            )
        click.echo(json.dumps({"tenant": encode_id(TENANT, tenant_id)}))

    asyncio.run(_with_database(settings.database_url, work))


@tenant.command()
@click.option("--name", required=True, help="The organisation's name.")
@click.option("--region", "regions", multiple=True, help="A region or jurisdiction, in order; by default all regions.")
@click.option("--requests-per-minute", default=600, show_default=True, help="The limit in each region.")
@click.option("--currency", default="EUR", show_default=True)
@told_plainly
def create(name: str, regions: tuple[str, ...], requests_per_minute: int, currency: str) -> None:
    """Make a tenant with welcome credit. Prints its id and its first two keys, which are shown this once."""
    settings = load_settings(SeedSettings, os.environ)
    peppers = parse_peppers(settings.key_peppers)

    async def work(database: Database) -> None:
        async with database.operator() as session:
            tenant_id, secrets = await create_tenant(
                session,
                name=name,
                allowed_regions=regions,
                requests_per_minute=requests_per_minute,
                currency=currency,
                peppers=peppers,
                welcome_credit_nano=settings.welcome_credit_nano,
            )
        answer = {
            "tenant": encode_id(TENANT, tenant_id),
            "api_key": secrets[KeyKind.INFERENCE],
            "management_key": secrets[KeyKind.MANAGEMENT],
        }
        click.echo(json.dumps(answer))

    asyncio.run(_with_database(settings.database_url, work))


def _read_credentials() -> dict[str, str]:
    try:
        return msgspec.json.decode(os.environ.get(_CREDENTIALS, "{}"), type=dict[str, str])
    except msgspec.MsgspecError:
        raise Invalid(f"{_CREDENTIALS} is not a JSON object of strings", code="invalid_setting") from None


async def _with_database(url: str, work: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
    database = Database(url, origin=command_origin())
    try:
        await work(database)
    finally:
        await database.close()
