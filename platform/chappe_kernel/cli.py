"""The command `chappe`. Each group of commands lives in the package that it works on and is imported only when it
is called, so that the command runs with the base dependencies alone and says which extra a command lacks."""

import importlib
import importlib.metadata
import importlib.resources
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click

from chappe_kernel.errors import ChappeError
from chappe_kernel.state_dir import state_dir


class _Entry(NamedTuple):
    target: str
    extra: str
    help: str


# Sorted as a newcomer meets them.
_COMMANDS = {
    "up": _Entry("chappe_local.cli:up", "local", "Run a whole Chappe on this machine."),
    "status": _Entry("chappe_local.cli:status", "local", "What runs here, and how it fares."),
    "logs": _Entry("chappe_local.cli:logs", "local", "Show the log of one part, or of all."),
    "start": _Entry("chappe_local.cli:start", "local", "Start a stopped part."),
    "stop": _Entry("chappe_local.cli:stop", "local", "Stop one part; it stays stopped."),
    "down": _Entry("chappe_local.cli:down", "local", "Stop everything; data and keys are kept."),
    "backup": _Entry("chappe_local.backup.cli:backup", "local", "Back the database up, stream its log, verify."),
    "restore": _Entry("chappe_local.backup.cli:restore", "local", "Restore the database."),
    "control": _Entry("chappe_control.server_cli:control", "control", "Run the control plane."),
    "worker": _Entry("chappe_control.worker_cli:worker", "control", "Do what nobody's page waits for."),
    "gateway": _Entry("chappe_gateway.cli:gateway", "gateway", "Run a region's gateway."),
    "reconcile": _Entry("chappe_serving.cli:reconcile", "serving", "Drive a region's Ray Serve to the catalogue."),
    "db": _Entry("chappe_store.cli:db", "control", "Migrate the database."),
    "catalogue": _Entry("chappe_control.cli:catalogue", "control", "Apply a catalogue of regions and models."),
    "tenant": _Entry("chappe_control.cli:tenant", "control", "Create tenants and their keys."),
    "operator": _Entry("chappe_tenants.cli:operator", "control", "Who may use the console, and in which role."),
    "prices": _Entry(
        "chappe_control.prices_cli:prices", "control", "List, simulate, publish, withdraw and revert prices."
    ),
    "legal-entity": _Entry(
        "chappe_tenants.legal_entities.cli:legal_entity", "control", "Who the operator's companies are in law."
    ),
    "ledger": _Entry("chappe_billing.cli:ledger", "control", "Verify the ledger, and explain what a request cost."),
    "invoice": _Entry("chappe_billing.invoice_runs.cli:invoice", "control", "Issue a month's invoices."),
    "journal": _Entry("chappe_billing.journal.cli:journal", "control", "Export a month for the general ledger."),
    "audit": _Entry("chappe_store.audit_log.cli:audit", "control", "Verify, export and sign the audit log."),
    "usage": _Entry("chappe_billing.cli:usage", "control", "Look after usage that two witnesses disagree about."),
    "documents": _Entry(
        "chappe_billing.documents.cli:documents", "control", "Verify invoices' documents, and see those refused."
    ),
    "feed": _Entry("chappe_billing.feed.cli:feed", "control", "Deliver rated usage to your own BSS."),
}


# Beside a local instance these need no settings: `up` wrote them into a private file. Long-running parts never read
# it: a gateway must not hold a credential of the database.
_OPERATORS_TOOLS = {
    *("db", "catalogue", "tenant", "operator", "legal-entity", "prices", "ledger", "usage", "audit", "feed"),
    *("invoice", "journal", "documents", "backup", "restore"),
}


class _LazyGroup(click.Group):
    """Lists every command, and imports one only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if cmd_name in _OPERATORS_TOOLS:
            _complete_environment(state_dir(os.environ) / "operator.env")
        return super().get_command(ctx, cmd_name) if entry is None else _load(entry)

    def invoke(self, ctx: click.Context) -> Any:
        """Expected errors end any command with their message and no traceback."""
        try:
            return super().invoke(ctx)
        except ChappeError as error:
            raise click.ClickException(error.message) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*((name, entry.help) for name, entry in _COMMANDS.items()), *own])


@click.group(cls=_LazyGroup)
@click.version_option(importlib.metadata.version("chappe"), prog_name="chappe")
def main() -> None:
    """A small sovereign hyperscaler for AI inference."""


@main.command()
def doctor() -> None:
    """What is installed: extras that are usable, and the newest migration."""
    for extra, module in {"gateway": "litestar", "control": "sqlalchemy", "serving": "ray", "local": "rich"}.items():
        click.echo(f"{extra:8} {'installed' if find_spec(module) else f'missing: pip install chappe[{extra}]'}")
    migrations = importlib.resources.files("chappe_store") / "migrations" / "versions"
    names = sorted(path.name for path in migrations.iterdir() if path.name.endswith(".py"))
    click.echo(f"migrations {len(names)}, newest {names[-1]}")


def _load(entry: _Entry) -> click.Command:
    module, _, attribute = entry.target.partition(":")
    try:
        command: click.Command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("chappe"):
            raise
        raise click.ClickException(f"this needs {error.name}: pip install 'chappe[{entry.extra}]'") from error
    return command


def _complete_environment(path: Path) -> None:
    """Add what the file says and the environment does not."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        name, _, value = line.partition("=")
        os.environ.setdefault(name, value)
