"""From nothing to ready: the steps between the parts, and the proof that the whole way works."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import structlog

from chappe_local import logs, postgres, probes
from chappe_local.manifest import Cell, manifest_with, model_for
from chappe_local.parts import DATABASE_READY, Setting
from chappe_local.private_files import write_private, write_private_json
from chappe_local.runfile import run_document, write_run_file
from chappe_local.seed import demo_seed, probe_seed
from chappe_local.supervisor import StartFailed, Supervisor

_log = structlog.get_logger()
_GENERATION_WITHIN_S = 120.0
_TRY_AGAIN_S = 0.2


@dataclass
class Step:
    """Work of the start-up that is no part: shown beside the parts while it lasts."""

    name: str
    state: Literal["waiting", "starting", "ready", "failed"] = "waiting"
    seconds: float = 0.0


@dataclass
class StartUp:
    """One start of an instance; `steps` is what a display shows."""

    setting: Setting
    supervisor: Supervisor
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps = [Step(DATABASE_READY), *(Step(_token_step(cell)) for cell in self.setting.instance.cells)]

    async def run(self) -> dict[str, Any]:
        """Start everything and return the document that was written to `run.json`. Raises `StartFailed`."""
        self.supervisor.start_all()
        tenant = await self._prepare_database()
        cells = self.setting.instance.cells
        tasks = [asyncio.create_task(self._first_token(cell)) for cell in cells]
        try:
            await asyncio.gather(*tasks)
            await self.supervisor.until_ready(*self.supervisor.running)
        finally:
            for task in tasks:
                task.cancel()
        self.supervisor.finish_start_up()
        document = run_document(
            self.setting.instance,
            self.setting.secrets,
            tenant,
            catches_mail=not self.setting.replacements.smtp_url,
            takes_money=self.setting.replacements.stripe_api_key is not None,
        )
        write_run_file(self.setting.instance, document)
        return document

    async def _prepare_database(self) -> str:
        """Roles, schema, catalogue, demo and probe tenants. All of it is idempotent. Returns the demo tenant's id."""
        setting = self.setting
        if "postgres" in self.supervisor.running:
            await self.supervisor.until_ready("postgres")
        async with self._step(DATABASE_READY):
            if "postgres" in self.supervisor.running:
                await postgres.prepare_roles(setting.postgres_socket_dir, setting.secrets.postgres)
            files = await asyncio.to_thread(self._write_seed_files)
            command = [sys.executable, "-m", "chappe_local.prepare", *map(str, files)]
            environment = {
                **setting.base_environment(DATABASE_READY),
                **setting.operator_environment(),
                "CHAPPE_REGION_CREDENTIALS": json.dumps(
                    {name: own.credential for name, own in setting.secrets.cells.items()}
                ),
            }
            log = logs.log_path(setting.instance.logs_dir, DATABASE_READY)
            try:
                output = await self.supervisor.run_once(DATABASE_READY, command, environment, log)
            finally:
                for file in files:
                    file.unlink()
        # Read by the command itself, so that the operator's tools work beside the instance without settings.
        lines = (f"{name}={value}\n" for name, value in setting.operator_environment().items())
        write_private(setting.instance.state_dir / "operator.env", "".join(lines))
        self.supervisor.milestone(DATABASE_READY).set()
        return str(json.loads(output.splitlines()[-1])["tenant"])

    def _write_seed_files(self) -> list[Path]:
        """Catalogue, probe tenant and demo tenant, in files that only we may read and that are gone after the step."""
        instance, secrets = self.setting.instance, self.setting.secrets
        documents = {
            "catalogue": manifest_with({cell.name: instance.gateway_url(cell) for cell in instance.cells}),
            "probe": probe_seed(secrets, instance.cells),
            "demo": demo_seed(secrets, instance.cells),
        }
        paths = []
        for name, document in documents.items():
            path = instance.runtime_dir / f"{name}-seed.json"
            write_private_json(path, document)
            paths.append(path)
        return paths

    async def _first_token(self, cell: Cell) -> None:
        """A real streamed answer through the region's gateway, paid by the instance's own tenant."""
        instance = self.setting.instance
        await self.supervisor.until_ready(cell.part("serving"), cell.part("gateway"))
        async with self._step(_token_step(cell)):
            deadline = time.monotonic() + _GENERATION_WITHIN_S
            url, key, model = instance.gateway_url(cell), self.setting.secrets.probe_key, model_for("chat")
            while not await probes.generates(url, key, model):
                if time.monotonic() > deadline:
                    lines = logs.tail(logs.log_path(instance.logs_dir, cell.part("gateway")), 20)
                    raise StartFailed(cell.part("gateway"), f"{model} generates nothing in {cell.name}", lines)
                await asyncio.sleep(_TRY_AGAIN_S)

    @asynccontextmanager
    async def _step(self, name: str) -> AsyncIterator[None]:
        step = next(step for step in self.steps if step.name == name)
        started = time.monotonic()
        step.state = "starting"
        try:
            yield
        except BaseException:
            step.state = "failed"
            raise
        finally:
            step.seconds = time.monotonic() - started
        step.state = "ready"
        _log.info("step", name=name, seconds=round(step.seconds, 1))


def _token_step(cell: Cell) -> str:
    return cell.part("first-token")
