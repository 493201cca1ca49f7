"""One real instance for every suite that needs one: what the tests know of it is its `run.json` and its command."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

CHAPPE = Path(sys.executable).parent / "chappe"
PORT_BASE = 18400
RUNNING_VARIABLE = "CHAPPE_TEST_STATE_DIR"
"""Names the state folder of an instance that runs already: whoever works on the pages need not wait for a new one."""

_LETTER_WITHIN_S = 20
# A killed gateway's money comes back at the release: sooner than by default, so that the suite need not wait long.
_SHORT_GRANTS = {"CHAPPE_GRANT_ADMIT_S": "10", "CHAPPE_GRANT_SETTLE_S": "60", "CHAPPE_GRANT_RELEASE_S": "70"}


@dataclass
class Instance:
    """One instance, by its state directory and the environment of its commands."""

    state_dir: Path
    environ: dict[str, str]
    run: dict[str, Any] = field(default_factory=dict)

    def chappe(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [str(CHAPPE), *arguments]
        result = subprocess.run(
            command, env=self.environ, check=False, capture_output=True, text=True, timeout=timeout, cwd="/"
        )
        if check and result.returncode != 0:
            raise AssertionError(f"chappe {' '.join(arguments)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def up(self) -> None:
        self.chappe("up", "--detach", timeout=400)
        self.read_run_file()

    def read_run_file(self) -> None:
        self.run = json.loads((self.state_dir / "run.json").read_text())

    def status(self) -> dict[str, Any]:
        """Exit code 1 only says that not all is ready."""
        document: dict[str, Any] = json.loads(self.chappe("status", "--json", check=False).stdout)
        return document

    def gateway(self, region: str) -> str:
        return str(next(entry["gateway_url"] for entry in self.run["regions"] if entry["name"] == region))

    def openai(self, region: str, key: str = "api_key") -> OpenAI:
        return OpenAI(base_url=self.gateway(region) + "/v1", api_key=self.run["demo"][key], max_retries=0, timeout=90)

    def management(self, path: str, **params: str | int) -> Any:
        headers = {"authorization": f"Bearer {self.run['demo']['management_key']}"}
        answer = httpx.get(f"{self.run['control']['url']}/api/v1{path}", headers=headers, params=params, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def letters_to(self, address: str) -> list[dict[str, Any]]:
        """What the instance sent there, oldest first."""
        answer = httpx.get(f"{self.run['mail']['url']}/api/letters", params={"to": address}, timeout=30)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found[::-1]

    def letter_to(self, address: str, after: int = 0) -> dict[str, Any]:
        """The next one, when `after` of them are known already."""
        deadline = time.monotonic() + _LETTER_WITHIN_S
        while len(found := self.letters_to(address)) <= after:
            assert time.monotonic() < deadline, f"no letter within {_LETTER_WITHIN_S} s"
            time.sleep(0.05)
        return found[after]

    @property
    def chat_model(self) -> str:
        return str(self.run["models"]["chat"])

    @property
    def portal_url(self) -> str:
        """Where people go: pages redirect every other host to it."""
        return str(self.run["control"]["url"]).replace("127.0.0.1", "localhost")

    @property
    def gateway_urls(self) -> list[str]:
        return [str(entry["gateway_url"]) for entry in self.run["regions"]]


@contextlib.contextmanager
def running_instance(state_dir: Path) -> Iterator[Instance]:
    """`chappe up --detach` with ports and a state folder of its own, and `chappe down`, whatever happens in between."""
    if running := os.environ.get(RUNNING_VARIABLE):
        instance = Instance(Path(running), dict(os.environ) | {"CHAPPE_STATE_DIR": running})
        instance.read_run_file()
        yield instance
        return
    _assert_free(PORT_BASE)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHAPPE_")}
    environ |= {"CHAPPE_STATE_DIR": str(state_dir), "CHAPPE_PORT_BASE": str(PORT_BASE), **_SHORT_GRANTS}
    instance = Instance(state_dir, environ)
    try:
        instance.up()
        yield instance
    finally:
        instance.chappe("down", check=False)


def _assert_free(port: int) -> None:
    with socket.socket() as probe:
        # Connections of the instance before that are only closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
