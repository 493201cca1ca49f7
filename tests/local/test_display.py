"""A person at a terminal sees where everything is and how to enter; a log sees no secret."""

import io
from typing import Any

import pytest
from rich.console import Console

from chappe_local.display import show_ready

RUN: dict[str, Any] = {
    "control": {"url": "http://127.0.0.1:9400"},
    "mail": {"url": "http://localhost:9402"},
    "payments": {"stand_in": True, "url": "http://localhost:9403"},
    "regions": [{"name": "fr-par", "jurisdiction": "FR", "gateway_url": "http://127.0.0.1:9411"}],
    "models": {"chat": "small-chat", "embeddings": "small-embeddings"},
    "demo": {
        "tenant": "ten_x",
        "api_key": "ck_i-secret",
        "fr_only_api_key": "ck_i-secret-2",
        "management_key": "ck_m-secret",
        "member": {"email": "demo@tenant.example", "password": "members-secret"},
        "operator": {"email": "admin@operator.example", "password": "operators-secret"},
    },
}
STATUS = {"seconds": 42, "run": RUN}


def test_at_a_terminal_portal_and_console_stand_with_their_sign_ins() -> None:
    out = io.StringIO()
    show_ready(Console(file=out, force_terminal=True, width=160, color_system=None), STATUS, "run.json")
    lines = out.getvalue().splitlines()
    portal = next(place for place, line in enumerate(lines) if "http://localhost:9400 " in line)
    console = next(place for place, line in enumerate(lines) if "http://localhost:9400/console" in line)
    assert "demo@tenant.example   members-secret" in lines[portal + 1]
    assert "admin@operator.example   operators-secret" in lines[console + 1]
    assert any("Mail" in line and "http://localhost:9402 " in line for line in lines)
    assert any("http://localhost:9403 " in line and "takes no money" in line for line in lines)


def test_elsewhere_addresses_stand_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show_ready(Console(file=io.StringIO()), STATUS, "run.json")
    printed = capsys.readouterr().out
    assert "portal http://localhost:9400\n" in printed
    assert "console http://localhost:9400/console\n" in printed
    assert "mail http://localhost:9402\n" in printed
    assert "payments http://localhost:9403 (" in printed
    assert "secret" not in printed
