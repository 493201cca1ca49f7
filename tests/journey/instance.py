"""What the journey knows of a running instance: its `run.json` and its command."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

CHAPPE = Path(sys.executable).parent / "chappe"


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

    @property
    def chat_model(self) -> str:
        return str(self.run["models"]["chat"])
