"""`chappe operator`: who may sign in to the console, and in which role.

A password comes from a prompt, or from standard input where nobody can type: never from an argument, which every
user of the machine can read in the list of processes.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.errors import ChappeError
from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.audit_log.origin import command_origin
from chappe_store.session import Database
from chappe_tenants.operator_tokens.service import (
    DEFAULT_LIFETIME_DAYS,
    MAX_LIFETIME_DAYS,
    create_token_for,
    revoke_tokens_of,
)
from chappe_tenants.operators import service
from chappe_tenants.operators.queries import list_operators
from chappe_tenants.operators.service import OperatorRole
from chappe_tenants.peppers import parse_peppers

T = TypeVar("T")

_Role = click.Choice([role.value for role in OperatorRole])
_MAX_LINE = 1000


@dataclass(frozen=True)
class _Settings:
    database_url: str = field(repr=False)


@dataclass(frozen=True)
class _TokenSettings(_Settings):
    key_peppers: str = field(repr=False)


@click.group()
def operator() -> None:
    """Who may use the console, and in which role."""
    prepare_process("operator")


@operator.command()
@click.argument("email")
@click.option("--role", type=_Role, default=OperatorRole.SUPPORT.value, show_default=True)
def create(email: str, role: str) -> None:
    """Add a user. The password is asked for, or is the first line of standard input."""
    password = _read_password()
    _run(partial(service.create_operator, email=email, password=password, role=OperatorRole(role)))
    click.echo(f"{email} may sign in as {role}")


@operator.command("list")
def list_() -> None:
    """Everybody's address and role, one a line."""
    for user in _run(list_operators):
        click.echo(f"{user.email}\t{user.role}")


@operator.command()
@click.argument("email")
@click.argument("role", type=_Role)
def set_role(email: str, role: str) -> None:
    """Change what a user may do, in open sessions too."""
    _run(partial(service.set_operator_role, email=email, role=OperatorRole(role)))
    click.echo(f"{email} is {role} now")


@operator.command()
@click.argument("email")
def set_password(email: str) -> None:
    """Give a user a new password and end their sessions. It is asked for, or the first line of standard input."""
    _run(partial(service.set_operator_password, email=email, password=_read_password()))
    click.echo(f"{email} has a new password; open sessions have ended")


@operator.command()
@click.argument("email")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, MAX_LIFETIME_DAYS), default=DEFAULT_LIFETIME_DAYS, show_default=True)
def create_token(email: str, name: str, days: int) -> None:
    """Make a token for a program of this user's. It may do what the user may. Its secret is printed this once."""
    peppers = parse_peppers(load_settings(_TokenSettings, os.environ).key_peppers)
    click.echo(_run(partial(create_token_for, email=email, name=name, lifetime_days=days, peppers=peppers)))


@operator.command()
@click.argument("email")
def revoke_tokens(email: str) -> None:
    """End all tokens of this user's."""
    _run(partial(revoke_tokens_of, email=email))
    click.echo(f"no token of {email} opens anything now")


def _read_password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more")
        return password
    return sys.stdin.readline(_MAX_LINE).rstrip("\r\n")


def _run(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """As the operator's role, in one transaction. Expected errors end the command with their message."""
    try:
        return asyncio.run(_with_database(load_settings(_Settings, os.environ).database_url, work))
    except ChappeError as error:
        raise click.ClickException(error.message) from error


async def _with_database(url: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    database = Database(url, origin=command_origin())
    try:
        async with database.operator() as session:
            return await work(session)
    finally:
        await database.close()
