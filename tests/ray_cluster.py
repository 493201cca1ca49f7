"""One region's real Ray cluster for tests, started and ended as an instance does it."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from chappe_serving.ray_head import RayHead, haproxy_config, head_command, head_environment
from chappe_serving.ray_processes import end_cluster

_READY_S = 60


@dataclass(frozen=True)
class RunningCluster:
    """A cluster whose dashboard answers; Serve has no application yet."""

    head: RayHead
    head_pid: int
    serving_port: int

    @property
    def serving_url(self) -> str:
        return f"http://127.0.0.1:{self.serving_port}"

    @property
    def token(self) -> str:
        return self.head.token_path.read_text()

    @property
    def logs_dir(self) -> Path:
        return self.head.temp_dir / "session_latest" / "logs"


@contextlib.contextmanager
def ray_cluster(port_base: int, engine_redis_url: str, *, region: str = "fr-par") -> Iterator[RunningCluster]:
    """Ports: 300 from `port_base` for Ray, and the next one for Serve. Leaves no process and no file behind."""
    folder = Path(tempfile.mkdtemp(prefix="cr-", dir="/tmp"))  # Ray's sockets need a short path
    token_path = folder / "token"
    token_path.touch(mode=0o600)
    token_path.write_text(secrets.token_hex(32))
    head = RayHead(
        region=region,
        port_base=port_base,
        temp_dir=folder,
        token_path=token_path,
        engine_redis_url=engine_redis_url,
    )
    haproxy_config(head).parent.mkdir()
    (folder / "tmp").mkdir()
    environment = head_environment(head, {**os.environ, "TMPDIR": str(folder / "tmp")})
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(head_command(head), env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        running = RunningCluster(head=head, head_pid=process.pid, serving_port=port_base + 300)
        _wait_for_dashboard(running)
        yield running
    finally:
        end_cluster(head, process.pid, grace_s=1.0)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_dashboard(running: RunningCluster) -> None:
    give_up_at = time.monotonic() + _READY_S
    headers = {"authorization": f"Bearer {running.token}"}
    while True:
        try:
            httpx.get(f"{running.head.dashboard_url}/api/serve/applications/", headers=headers).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.2)
        else:
            return
