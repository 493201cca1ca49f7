"""What the code of the two planes does not do at all, read from the code: no test by example could show it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from litestar import Litestar

from chappe_control.settings import ControlSettings
from chappe_gateway.settings import GatewaySettings
from tests.routes import app_without_services

ROOT = Path(__file__).parents[2]
# Whatever takes requests, or is imported by what does.
PLANES = ["platform", "tenants", "billing"]
SOURCES = [path for plane in PLANES for path in sorted((ROOT / plane).rglob("*.py")) if "web" not in path.parts]

_STARTS_PROGRAMS = {"subprocess", "pty", "multiprocessing", "code", "codeop", "runpy"}
_RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
_UNPACKS_OBJECTS = {"pickle", "marshal", "shelve", "dill", "yaml"}
_CALLS_OUT = {"httpx", "httpcore", "aiohttp", "requests", "urllib3", "stripe"}
_SECRET = re.compile(r"(secret|digest|password|token|checksum|signature|credential)s?$(?<!_tokens)")


@pytest.fixture(scope="module")
def app() -> Litestar:
    return app_without_services()


def trees(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        if not packages or any(f"/{package}/" in name for package in packages):
            yield name, ast.parse(path.read_text())


def imports_of(tree: ast.Module) -> set[str]:
    """The top packages that a module imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 150


def test_nothing_that_takes_requests_can_start_a_program() -> None:
    """LiteLLM CVE-2026-42271: a command that came with a request's body was run."""
    for name, tree in trees():
        assert not imports_of(tree) & _STARTS_PROGRAMS, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in _RUNS_TEXT and not called.startswith(("os.system", "os.popen", "os.exec")), name
                assert "create_subprocess" not in called and not called.startswith("os.spawn"), name


def test_nothing_unpacks_objects_that_could_run() -> None:
    for name, tree in trees():
        assert not imports_of(tree) & _UNPACKS_OBJECTS, name


def test_the_control_plane_calls_nobody_but_where_it_is_guarded() -> None:
    """So no webhook and no redirect can lead it to an internal address (new-api issue 4746, Open WebUI CVE-2026-45400,
    CVE-2026-45401). Whoever adds an outgoing call adds its guard here: resolve, refuse what is not public, pin, no
    redirects; or an address that only an operator's setting can name."""
    calling = {}
    for name, tree in trees("chappe_control", "chappe_tenants", "chappe_billing", "chappe_catalogue", "chappe_store"):
        if called := imports_of(tree) & _CALLS_OUT:
            calling[name] = called
        source = ast.unparse(tree)
        assert not re.search(r"^\s*from urllib.request|^\s*import urllib.request", source, re.MULTILINE), name
        assert "follow_redirects=True" not in source and "allow_redirects" not in source, name
    assert calling == OUTGOING


OUTGOING = {
    # Tenants' own addresses: `tests/webhooks/test_addresses.py`, `test_target.py` and `test_sending.py` are its guard.
    "platform/chappe_control/webhooks/sending.py": {"httpcore"},
    # `CHAPPE_VIES_URL` and Stripe's address: settings of the operator's. httpx follows no redirect by itself.
    "billing/chappe_billing/tax/vies.py": {"httpx"},
    "billing/chappe_billing/payments/stripe_service.py": {"stripe"},
}
"""What may call out, with what."""


def test_no_setting_turns_authentication_off(app: Litestar) -> None:
    """LiteLLM CVE-2026-12795: a sign-on for debugging was left open."""
    names = {field.name for settings in (ControlSettings, GatewaySettings) for field in fields(settings)}
    assert not [name for name in names if re.search(r"debug|bypass|skip|disable|insecure|no_auth|test", name)]
    assert app.debug is False
    assert app.pdb_on_exception is False


def test_no_secret_is_compared_with_equals() -> None:
    """vLLM CVE-2025-59425: how long `==` takes tells how much of a key was right. Digests are looked up by an index or
    compared in constant time; SQL's own comparison in a query is such an index look-up."""
    found = []
    for name, tree in trees():
        if name.endswith(("queries.py", "models.py")):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                found += [
                    f"{name}:{node.lineno} {ast.unparse(node)}"
                    for side in (node.left, *node.comparators)
                    if isinstance(side, ast.Name | ast.Attribute) and _SECRET.search(ast.unparse(side))
                ]
    assert [place for place in found if not any(known in place for known in NO_SECRETS)] == []


# Compared with `==`, and no secret: what it is instead.
NO_SECRETS = {
    "mark.digest != claim.digest": "a digest of what the caller has sent themselves",
    "digest.digest() != batch.digest": "a batch of the feed against its own manifest, which its consumer has",
    "self.row.simulated_lines == self.lines_digest": "whether a draft is still as it was simulated",
    "record.body_digest != call.body_digest": "a digest of what the caller has sent themselves",
    "checkpoint.previous_signature != previous": "signatures of the audit log are published, to be checked",
}
