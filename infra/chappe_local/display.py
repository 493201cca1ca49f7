"""What a person sees while an instance starts, and once it runs. With a terminal a live table, without plain lines."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Self

import click
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH = 160
_MARKS = {
    "ready": ("●", "green"),
    "starting": ("◐", "yellow"),
    "waiting": ("○", "dim"),
    "restarting": ("↻", "yellow"),
    "stopping": ("◐", "yellow"),
    "stopped": ("■", "dim"),
    "failed": ("✗", "red"),
}


def make_console() -> Console:
    """As wide as the terminal; wide enough for every line where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


class Progress:
    """Shows one status after another. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._seen: dict[str, str] = {}
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: Mapping[str, Any]) -> None:
        if self._live is not None:
            self._live.update(_table(status))
            return
        for entry in (*status["steps"], *status["parts"]):
            if self._seen.get(entry["name"]) != entry["state"] and entry["state"] != "waiting":
                click.echo(f"{time.monotonic() - self._started:6.1f} s  {entry['name']} {entry['state']}{_why(entry)}")
            self._seen[entry["name"]] = entry["state"]


def show_status(console: Console, status: Mapping[str, Any]) -> None:
    """The table of `chappe status`."""
    console.print(_table(status, with_memory=True))
    memory_mb = sum(part["memory_mb"] or 0 for part in status["parts"])
    console.print(f"its start took {status['seconds']} s; {memory_mb} MB in all")


def show_ready(console: Console, status: Mapping[str, Any], run_file: str) -> None:
    """Where everything is. Secrets only to a terminal: elsewhere they would end in somebody's log."""
    run = status["run"]
    portal = run["control"]["url"].replace("127.0.0.1", "localhost")
    if not console.is_terminal:
        click.echo(f"Chappe is ready after {status['seconds']} s")
        click.echo(f"portal {portal}")
        click.echo(f"console {portal}/console")
        click.echo(f"control {run['control']['url']}")
        if "mail" in run:
            click.echo(f"mail {run['mail']['url']}")
        if run["payments"]["stand_in"]:
            click.echo(f"payments {run['payments']['url']} (a stand-in, which takes no money)")
        for region in run["regions"]:
            click.echo(f"gateway {region['name']} {region['gateway_url']}/v1")
        click.echo(f"keys and sign-ins: {run_file}")
        return
    demo = run["demo"]
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Portal", portal)
    grid.add_row("", f"{demo['member']['email']}   {demo['member']['password']}")
    grid.add_row("Operator console", f"{portal}/console")
    grid.add_row("", f"{demo['operator']['email']}   {demo['operator']['password']}")
    grid.add_row("API", f"{portal}/api/v1   description: {portal}/schema/openapi.json")
    if "mail" in run:
        grid.add_row("Mail", f"{run['mail']['url']}   what the instance sent: links to sign up, new passwords")
    if run["payments"]["stand_in"]:
        grid.add_row("Payments", f"{run['payments']['url']}   a stand-in that takes no money; pay by test cards")
    for region in run["regions"]:
        grid.add_row(f"Gateway {region['name']}", f"{region['gateway_url']}/v1   jurisdiction {region['jurisdiction']}")
    grid.add_row("API key", demo["api_key"])
    grid.add_row("Key for France only", demo["fr_only_api_key"])
    grid.add_row("Management key", demo["management_key"])
    grid.add_row("All of it", run_file)
    console.print(Panel(grid, title=f"Chappe is ready after {status['seconds']} s", border_style="green"))
    # Printed without a frame, so that it can be copied.
    console.print(Text("\nAsk it something:\n", style="bold"))
    console.print(Syntax(_curl(run), "bash", background_color="default"), soft_wrap=True)
    console.print(Text("\nThe same in Python (pip install openai), and what it cost:\n", style="bold"))
    console.print(Syntax(_python(run), "python", background_color="default"), soft_wrap=True)


def show_failure(console: Console, failure: Mapping[str, Any], logs_dir: str) -> None:
    click.echo(f"\n{failure['part']}: {failure['why']}", err=True)
    for line in failure["lines"]:
        click.echo(f"  {line}", err=True)
    click.echo(f"All logs: {logs_dir}. Nothing is left running.", err=True)
    console.file.flush()


def _table(status: Mapping[str, Any], *, with_memory: bool = False) -> Group:
    table = Table(box=None, padding=(0, 2))
    for column in ("", "part", "state", "seconds", *(("MB",) if with_memory else ()), "restarts", ""):
        table.add_column(column, justify="right" if column in {"seconds", "MB", "restarts"} else "left", no_wrap=True)
    for part in status["parts"]:
        mark, style = _MARKS[part["state"]]
        memory = (str(part["memory_mb"] or ""),) if with_memory else ()
        state = part["state"] if part["answers"] or part["state"] != "ready" else "not answering"
        table.add_row(
            Text(mark, style=style),
            part["name"],
            state,
            f"{part['for_s']:.0f}",
            *memory,
            str(part["restarts"] or ""),
            part["reason"] or "",
        )
    steps = Table.grid(padding=(0, 2))
    for step in status["steps"]:
        mark, style = _MARKS[step["state"]]
        steps.add_row(
            Text(f" {mark}", style=style), step["name"], f"{step['seconds']:.1f} s" if step["seconds"] else ""
        )
    if status["phase"] == "ready":
        return Group(Text("Chappe: ready"), table)
    return Group(Text(f"Chappe: {status['phase']}, {status['seconds']:.0f} s"), table, steps)


def _why(entry: Mapping[str, Any]) -> str:
    reason = entry.get("reason")
    return f" ({reason})" if reason else ""


def _curl(run: Mapping[str, Any]) -> str:
    return (
        f"curl -N {run['regions'][0]['gateway_url']}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {run['demo']['api_key']}' -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{run["models"]["chat"]}", "stream": true, "temperature": 0,\n'
        '       "messages": [{"role": "user", "content": "What is the capital of France?"}]}\''
    )


def _python(run: Mapping[str, Any]) -> str:
    return f"""import json, urllib.request
from openai import OpenAI
client = OpenAI(base_url="{run["regions"][0]["gateway_url"]}/v1", api_key="{run["demo"]["api_key"]}")
for chunk in client.chat.completions.create(
    model="{run["models"]["chat"]}", stream=True, stream_options={{"include_usage": True}}, temperature=0,
    messages=[{{"role": "user", "content": "What is the capital of France?"}}],
):
    print(chunk.choices[0].delta.content or "" if chunk.choices else chunk.usage, end="", flush=True)
balance = urllib.request.Request("{run["control"]["url"]}/api/v1/balance",
                                 headers={{"Authorization": "Bearer {run["demo"]["management_key"]}"}})
print("\\n", json.load(urllib.request.urlopen(balance)))"""
