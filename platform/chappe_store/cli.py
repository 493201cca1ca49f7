"""`chappe db`: migrate the database, or check that it is up to date."""

import asyncio
import os
from dataclasses import dataclass, field

import click

from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store import migrate as migrations


@dataclass(frozen=True)
class _OwnerSettings:
    database_owner_url: str = field(repr=False)
    database_url: str = field(repr=False)


@dataclass(frozen=True)
class _Settings:
    database_url: str = field(repr=False)


@click.group()
def db() -> None:
    """Migrate the database."""
    prepare_process("db")


@db.command()
def migrate() -> None:
    """Run the missing migrations, as the owner."""
    settings = load_settings(_OwnerSettings, os.environ)
    asyncio.run(migrations.migrate(settings.database_owner_url, settings.database_url))
    click.echo(f"the database is at {migrations.newest_revision()}")


@db.command()
def check() -> None:
    """Fail unless the database is at the newest migration."""
    asyncio.run(migrations.check(load_settings(_Settings, os.environ).database_url))
    click.echo(f"the database is at {migrations.newest_revision()}")
