"""`chappe catalogue` and `chappe tenant`."""

import json
import os
from pathlib import Path

import click
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.manifest import read_manifest
from chappe_control.catalogue.service import apply_catalogue
from chappe_control.seeding.schemas import read_seed
from chappe_control.seeding.service import create_tenant, plant_seed
from chappe_control.settings import SeedSettings
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Invalid
from chappe_kernel.ids import TENANT, TenantId, encode_id
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.commands import as_operator
from chappe_tenants.peppers import parse_peppers

_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_CREDENTIALS = "CHAPPE_REGION_CREDENTIALS"


@click.group()
def catalogue() -> None:
    """Apply a catalogue of regions and models."""
    prepare_process("catalogue")


@catalogue.command()
@click.argument("file", type=_File)
def apply(file: Path) -> None:
    """Make the database say what FILE says. Regions' credentials come from CHAPPE_REGION_CREDENTIALS."""
    manifest = read_manifest(file.read_bytes())
    credentials = _read_credentials()

    async def work(session: AsyncSession) -> None:
        await apply_catalogue(session, manifest, credentials)

    as_operator(work)
    click.echo(f"applied {len(manifest.listings)} listings in {len(manifest.regions)} regions")


@click.group()
def tenant() -> None:
    """Create tenants and their keys."""
    prepare_process("tenant")


@tenant.command()
@click.argument("file", type=_File)
def seed(file: Path) -> None:
    """Make the tenant, keys and people that FILE lists; what exists stays. Prints the tenant's id."""
    settings = load_settings(SeedSettings, os.environ)
    wanted = read_seed(file.read_bytes())
    peppers = parse_peppers(settings.key_peppers)

    async def work(session: AsyncSession) -> TenantId:
        return await plant_seed(session, wanted, peppers=peppers, welcome_credit_nano=settings.welcome_credit_nano)

    click.echo(json.dumps({"tenant": encode_id(TENANT, as_operator(work))}))


@tenant.command()
@click.option("--name", required=True, help="The organisation's name.")
@click.option("--region", "regions", multiple=True, help="A region or jurisdiction, in order; by default all regions.")
@click.option("--requests-per-minute", default=600, show_default=True, help="The limit in each region.")
@click.option("--currency", default="EUR", show_default=True)
def create(name: str, regions: tuple[str, ...], requests_per_minute: int, currency: str) -> None:
    """Make a tenant with welcome credit. Prints its id and its first two keys, which are shown this once."""
    settings = load_settings(SeedSettings, os.environ)
    peppers = parse_peppers(settings.key_peppers)

    async def work(session: AsyncSession) -> tuple[TenantId, dict[KeyKind, str]]:
        return await create_tenant(
            session,
            name=name,
            allowed_regions=regions,
            requests_per_minute=requests_per_minute,
            currency=currency,
            peppers=peppers,
            welcome_credit_nano=settings.welcome_credit_nano,
        )

    tenant_id, secrets = as_operator(work)
    answer = {
        "tenant": encode_id(TENANT, tenant_id),
        "api_key": secrets[KeyKind.INFERENCE],
        "management_key": secrets[KeyKind.MANAGEMENT],
    }
    click.echo(json.dumps(answer))


def _read_credentials() -> dict[str, str]:
    try:
        return msgspec.json.decode(os.environ.get(_CREDENTIALS, "{}"), type=dict[str, str])
    except msgspec.MsgspecError:
        raise Invalid(f"{_CREDENTIALS} is not a JSON object of strings", code="invalid_setting") from None
