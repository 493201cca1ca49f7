"""How long every page and live fragment takes with a million requests in the log: `make bench-portal`.

The control plane is a process of its own, over a real PostgreSQL and Valkey, as in production. Times are from the first
byte of the request to the last one of the answer, as a client on the same machine sees them: the server's time, and
a little more. Pages are found in the application's routes, so that none is forgotten. Run it on an idle machine.
"""

import asyncio
import base64
import http.client
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import click
import httpx
from litestar import Litestar
from litestar.routes import HTTPRoute

from chappe_billing.price_drafts.comparing import DraftLine
from chappe_billing.price_drafts.service import create_draft
from chappe_control.app import create_app
from chappe_control.mail_links.service import Purpose, make_link
from chappe_control.onboarding.tenants import Defaults, create_customer
from chappe_control.settings import ControlSettings
from chappe_kernel.ids import KEY, PRICE_DRAFT, PRICE_VERSION, PROJECT, REQUEST, TENANT, TenantId, encode_id, new_id
from chappe_kernel.ids import MEMBER as MEMBER_PREFIX
from chappe_kernel.rating import Price
from chappe_local import postgres as embedded
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_store.migrate import migrate
from chappe_store.session import Database, TenantScope
from chappe_tenants.invitations.service import invite
from chappe_tenants.members.service import Role
from chappe_tenants.organisations.schemas import CreateCustomer
from chappe_tenants.peppers import parse_peppers
from tests.bench import collecting, million
from tests.bench.server import database_server
from tests.pages.browser import Visitor
from tests.valkey_server import start_valkey

MEMBER, OPERATOR, NOBODY = "member", "operator", "nobody"
PEPPERS_TEXT = f"1:{base64.b64encode(b'b' * 32).decode()}"
AUDIT_KEYS_TEXT = f"1:{base64.b64encode(b'a' * 32).decode()}"
BENCH = Origin(ActorKind.COMMAND, "bench", None, new_id())
REQUESTS = 200
CONCURRENCIES = (1, 4)
RESULT = Path(".chappe/bench/portal.json")
# What is no page: the APIs, the assets, a file to keep, and what sends on to somewhere else.
_NO_PAGES = ("/api/", "/tmf-api/", "/exports/file", "/balance/service", "/internal/", "/static/", "/schema", "/healthz")
_PARAMETER = re.compile(r"\{(?P<name>\w+)(?::\w+)?\}")
_FOR_NOBODY = {
    *("/sign-in", "/sign-up", "/sign-up/confirm", "/forgot-password", "/reset-password", "/join", "/console/sign-in"),
}
_WARM_UP = 8
_CHROMIUM_ACCEPTS = {"accept": "text/html", "accept-encoding": "br", "accept-language": "en"}


@dataclass(frozen=True)
class Target:
    """An address, and whose cookies go with it."""

    path: str
    who: str


@dataclass(frozen=True)
class Times:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Million:
    """A database with a tenant's long past in it, and examples for the parameters in paths."""

    app_url: str
    tenant_id: TenantId
    examples: Mapping[str, str]
    queries: Mapping[str, Sequence[str]]
    links: Mapping[str, str]
    """The query without which a page says only that its link is over."""


@dataclass(frozen=True)
class Served:
    """A running control plane, and who is signed in to it."""

    port: int
    host: str
    cookies: Mapping[str, str]


def find_targets(app: Litestar, data: Million) -> list[Target]:
    """Every page and fragment, and the same with the queries that make it work hardest. Raises `KeyError` for a path
    with a parameter that has no example yet."""
    paths = sorted(
        route.path
        for route in app.routes
        if isinstance(route, HTTPRoute) and "GET" in route.methods and not route.path.startswith(_NO_PAGES)
    )
    found = []
    for path in paths:
        filled = _PARAMETER.sub(lambda match: data.examples[match["name"]], path)
        found += [
            Target(filled + query, _who(path)) for query in (data.links.get(path, ""), *data.queries.get(path, ()))
        ]
    return found


def measure(served: Served, target: Target, requests: int, concurrency: int) -> Times:
    """All connections are open and the first answers, which fill caches, are not counted."""
    share = -(-requests // concurrency)
    with ThreadPoolExecutor(concurrency) as pool:
        parts = list(pool.map(lambda _: _call(served, target, share), range(concurrency)))
    times = sorted(one for part in parts for one in part)
    return Times(statistics.median(times), times[int(len(times) * 0.95)], times[int(len(times) * 0.99)])


@contextmanager
def control_process(data: Million, redis_url: str, port: int) -> Iterator[str]:
    """`chappe control` on this port with a `chappe worker` beside it, as `make up` runs them; the origin that it takes
    for its own."""
    origin = f"http://localhost:{port}"
    settings = {
        "DATABASE_URL": data.app_url,
        "REDIS_URL": redis_url,
        "KEY_PEPPERS": PEPPERS_TEXT,
        "AUDIT_KEYS": AUDIT_KEYS_TEXT,
        "PORT": str(port),
        "PORTAL_URL": origin,
        "WORKS": "false",
        # A payment service that is away: the pages offer what they would with it.
        "STRIPE_API_KEY": "sk_test_bench",
        "STRIPE_API_BASE": "http://127.0.0.1:9",
    }
    environ = {**os.environ, **{f"CHAPPE_{name}": value for name, value in settings.items()}}
    control, worker = (_start(environ, command) for command in ("control", "worker"))
    try:
        _await_health(port, control)
        yield origin
        if worker.poll() is not None:
            raise RuntimeError("the worker ended: pages were not measured beside it")
    finally:
        for process in (control, worker):
            process.terminate()
        for process in (control, worker):
            process.wait(20)


def _start(environ: Mapping[str, str], command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("chappe")), command],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def sign_in(port: int, origin: str) -> Served:
    """As the tenant's member and as the operator, with a session each."""
    cookies = {NOBODY: ""}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        member, operator = Visitor(client, origin), Visitor(client, origin)
        await member.sign_in(million.MEMBER, million.PASSWORD)
        await operator.console_sign_in(million.OPERATOR, million.PASSWORD)
    for who, visitor in ((MEMBER, member), (OPERATOR, operator)):
        cookies[who] = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    return Served(port, origin.removeprefix("http://"), cookies)


async def fill_database(
    owner_url: str, app_url: str, connection: "asyncpg.Connection[Any]", events: int = million.EVENTS
) -> Million:
    """Migrate, plant and fill; `connection` is the superuser's."""
    await migrate(owner_url, app_url)
    database = Database(app_url, origin=BENCH)
    tenant_id = await million.plant(database, parse_peppers(PEPPERS_TEXT))
    await million.fill(database, connection, tenant_id, events)
    collected = await collecting.fill(database, connection, tenant_id, parse_peppers(PEPPERS_TEXT))
    await database.close()
    newest = await connection.fetchval("SELECT request_id FROM usage_event ORDER BY request_id DESC LIMIT 1")
    key = await connection.fetchval("SELECT key_id FROM usage_event GROUP BY key_id ORDER BY count(*) LIMIT 1")
    key_id = encode_id(KEY, key)
    log = (
        *("?limit=100", "?sort=time&order=asc", "?outcome=failed", "?outcome=completed", f"?key={key_id}"),
        "?model=multilingual-e5-small&region=de-fra&outcome=disconnected",
        # Nothing is like this, so that the search goes as far as it may.
        f"?model=multilingual-e5-small&region=de-fra&key={key_id}&outcome=failed",
        "?model=never-used",
    )
    await connection.execute(
        "INSERT INTO listing SELECT uuidv7(), 'never-used', publisher_id, task, currency, context_tokens, "
        "template_tokens, default_output_tokens, max_output_tokens FROM listing LIMIT 1"
    )
    project = await connection.fetchval("SELECT id FROM project WHERE tenant_id = $1", tenant_id)
    member = await connection.fetchval("SELECT id FROM member WHERE tenant_id = $1", tenant_id)
    await connection.execute("UPDATE tenant SET is_reseller = true WHERE id = $1", tenant_id)
    customer_id, links = await _begin_others(app_url, TenantScope(tenant_id))
    version, draft, month = await _draft_prices(app_url, connection)
    return Million(
        app_url=app_url,
        tenant_id=tenant_id,
        examples={
            "request_id": encode_id(REQUEST, newest),
            "tenant_id": encode_id(TENANT, tenant_id),
            "key_id": key_id,
            "project_id": encode_id(PROJECT, project),
            "member_id": encode_id(MEMBER_PREFIX, member),
            "customer_id": customer_id,
            **collected,
            "price_version": version,
            "draft_id": draft,
        },
        queries={
            "/overview": ("?period=month",),
            "/requests": log,
            "/keys": ("?new=1",),
            "/members": ("?new=1",),
            "/console/invoices": ("?overdue=1",),
            "/console/invoices/runs/{run_id:str}": ("?outcome=later",),
            "/console/prices/drafts/{draft_id:str}": (f"?month={month}",),
        },
        links=links,
    )


async def _begin_others(app_url: str, scope: TenantScope) -> tuple[str, dict[str, str]]:
    """A customer, and of each kind one link, to the page that it opens."""
    database = Database(app_url, origin=BENCH)
    async with database.operator() as session:
        customer = await create_customer(session, scope, CreateCustomer(name="Customer"), Defaults(60))
        invited = await invite(session, scope, email="noor@million.example", role=Role.VIEWER, giver=None)
        sign_up = await make_link(session, Purpose.SIGN_UP, "new@million.example", organisation="New")
        reset = await make_link(session, Purpose.RESET, million.MEMBER)
    await database.close()
    secrets_of = {"/join": invited.secret, "/sign-up/confirm": sign_up, "/reset-password": reset}
    return encode_id(TENANT, customer.id), {path: f"?link={secret}" for path, secret in secrets_of.items()}


async def _draft_prices(app_url: str, connection: "asyncpg.Connection[Any]") -> tuple[str, str, str]:
    """A price, a draft of a dearer one, and the month with most usage under it."""
    version_id, listing_id, name, region, currency = await connection.fetchrow(
        "SELECT p.id, l.id, l.name, p.region, p.currency "
        "FROM price_version p JOIN listing l ON l.id = p.listing_id LIMIT 1"
    )
    month = await connection.fetchval(
        "SELECT to_char(date_trunc('month', day), 'YYYY-MM') FROM usage_price_day "
        "GROUP BY 1 ORDER BY sum(requests) DESC LIMIT 1"
    )
    line = DraftLine(listing_id, name, region, currency, Price(1_000, 100, 3_000), None)
    database = Database(app_url, origin=BENCH)
    async with database.operator() as session:
        draft = await create_draft(session, title="Dearer", tenant_id=None, lines=[line])
    await database.close()
    return encode_id(PRICE_VERSION, version_id), encode_id(PRICE_DRAFT, draft.row.id), month


async def fill_server(socket_dir: Path, passwords: embedded.Passwords) -> Million:
    await embedded.prepare_roles(socket_dir, passwords)
    connection = await asyncpg.connect(
        host=str(socket_dir), user=embedded.SUPERUSER, password=passwords.superuser, database=embedded.DATABASE
    )
    try:
        return await fill_database(
            embedded.database_url(socket_dir, embedded.OWNER, passwords.owner),
            embedded.database_url(socket_dir, embedded.LOGIN, passwords.control),
            connection,
        )
    finally:
        await connection.close()


def find_all_targets(data: Million) -> list[Target]:
    settings = ControlSettings(
        database_url=data.app_url,
        redis_url="redis://",
        key_peppers=PEPPERS_TEXT,
        audit_keys=AUDIT_KEYS_TEXT,
        port=1,
    )
    return find_targets(create_app(settings), data)


def _who(path: str) -> str:
    if path in _FOR_NOBODY:
        return NOBODY
    return OPERATOR if path.startswith("/console") else MEMBER


def _call(served: Served, target: Target, requests: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    headers = {**_CHROMIUM_ACCEPTS, "host": served.host, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
    if served.cookies[target.who]:
        headers["cookie"] = served.cookies[target.who]
    times = []
    for number in range(_WARM_UP + requests):
        began = time.perf_counter()
        connection.request("GET", quote(target.path, safe="/?=&"), headers=headers)
        answer = connection.getresponse()
        answer.read()
        if number >= _WARM_UP:
            times.append(1000 * (time.perf_counter() - began))
        # 410: a page that a link opens, without one.
        if answer.status not in {200, 303, 410}:
            raise AssertionError(f"{target.path} answered {answer.status}")
    connection.close()
    return times


def _await_health(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the control plane did not start")
        time.sleep(0.1)


def _run(port: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="chappe-bench-"))
    (directory / "valkey").mkdir()
    results = []
    try:
        with database_server(directory) as server, start_valkey(directory / "valkey") as valkey:
            data = asyncio.run(fill_server(*server))
            with control_process(data, valkey.url, port) as origin:
                served = asyncio.run(sign_in(port, origin))
                for target in find_all_targets(data):
                    results += [_report(served, target, concurrency) for concurrency in CONCURRENCIES]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"events": million.EVENTS, "requests": REQUESTS, "pages": results}, indent=2) + "\n")
    worst = max(result["p95"] for result in results if result["concurrency"] == 1)
    click.echo(f"worst p95 at concurrency 1: {worst:.1f} ms; written to {RESULT}")


def _report(served: Served, target: Target, concurrency: int) -> dict[str, Any]:
    times = measure(served, target, REQUESTS, concurrency)
    click.echo(
        f"{target.path[:76]:76} x{concurrency}  "
        f"p50 {times.p50:6.1f} ms  p95 {times.p95:6.1f} ms  p99 {times.p99:6.1f} ms"
    )
    return {"path": target.path, "who": target.who, "concurrency": concurrency} | asdict(times)


@click.command()
@click.option("--port", default=9890, show_default=True)
def main(port: int) -> None:
    """Measure every page, print a table, and write .chappe/bench/portal.json."""
    _run(port)


if __name__ == "__main__":
    main()
