"""`chappe operator`: who may sign in to the console, and in which role.

A password comes from a prompt, or from standard input where nobody can type: never from an argument, which every
user of the machine can read in the list of processes.
"""

import os
import sys
from dataclasses import dataclass, field
from functools import partial

import click

from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_store.commands import as_operator
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

_Role = click.Choice([role.value for role in OperatorRole])
_MAX_LINE = 1000


@dataclass(frozen=True)
class _TokenSettings:
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
    as_operator(partial(service.create_operator, email=email, password=password, role=OperatorRole(role)))
    click.echo(f"{email} may sign in as {role}")


@operator.command("list")
def list_() -> None:
    """Everybody's address and role, one a line."""
    for user in as_operator(list_operators):
        click.echo(f"{user.email}\t{user.role}")


@operator.command()
@click.argument("email")
@click.argument("role", type=_Role)
def set_role(email: str, role: str) -> None:
    """Change what a user may do, in open sessions too."""
    as_operator(partial(service.set_operator_role, email=email, role=OperatorRole(role)))
    click.echo(f"{email} is {role} now")


@operator.command()
@click.argument("email")
def set_password(email: str) -> None:
    """Give a user a new password and end their sessions. It is asked for, or the first line of standard input."""
    as_operator(partial(service.set_operator_password, email=email, password=_read_password()))
    click.echo(f"{email} has a new password; open sessions have ended")


@operator.command()
@click.argument("email")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, MAX_LIFETIME_DAYS), default=DEFAULT_LIFETIME_DAYS, show_default=True)
def create_token(email: str, name: str, days: int) -> None:
    """Make a token for a program of this user's. It may do what the user may. Its secret is printed this once."""
    peppers = parse_peppers(load_settings(_TokenSettings, os.environ).key_peppers)
    click.echo(as_operator(partial(create_token_for, email=email, name=name, lifetime_days=days, peppers=peppers)))


@operator.command()
@click.argument("email")
def revoke_tokens(email: str) -> None:
    """End all tokens of this user's."""
    as_operator(partial(revoke_tokens_of, email=email))
    click.echo(f"no token of {email} opens anything now")


def _read_password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more")
        return password
    return sys.stdin.readline(_MAX_LINE).rstrip("\r\n")
