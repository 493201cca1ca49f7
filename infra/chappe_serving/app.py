"""One Ray Serve application per deployment: its engine is its ingress. `import_path: chappe_serving.app:build`."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from ray import serve
from ray.serve import Application
from ray.serve._private import replica

from chappe_kernel.process import prepare_process
from chappe_kernel.settings import load_settings
from chappe_kernel.wire.control import DeploymentSpec
from chappe_serving.engines.registry import build_engine
from chappe_serving.ingress import Ingress
from chappe_serving.ray_head import LONGEST_STREAM_S
from chappe_serving.records import RecordWriter


@dataclass(frozen=True)
class ReplicaSettings:
    """From the environment of the region's Ray cluster."""

    region: str
    engine_redis_url: str
    engine_records_dir: str


def _hide_internal_grpc() -> None:
    """Serve opens a gRPC port on all interfaces in each replica, without a token, and unpickles what comes.

    Nobody here calls it (there are no calls between deployments): a socket in a private folder takes its place. Serve
    binds it only after the replica's constructor has run.
    """
    path = Path(tempfile.mkdtemp(prefix="chappe-grpc-")) / "s"
    vars(replica)["add_port_to_grpc_server"] = lambda server, _: server.add_insecure_port(f"unix:{path}")


@serve.ingress()
class EngineReplica:
    """A replica: one engine, started before Serve sends it anything."""

    async def __init__(self, spec: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        prepare_process("engine")
        _hide_internal_grpc()
        settings = load_settings(ReplicaSettings, os.environ)
        deployment = msgspec.convert(spec, DeploymentSpec)
        self._engine = build_engine(deployment.engine, deployment.options)
        records = RecordWriter(settings.engine_redis_url, Path(settings.engine_records_dir))
        await records.start()
        await self._engine.start()
        self._ingress = Ingress(self._engine, records)

    def __serve_build_asgi_app__(self) -> Ingress:
        return self._ingress

    async def check_health(self) -> None:
        """Serve replaces a replica whose check raises."""
        await self._engine.health()

    async def __del__(self) -> None:
        # Serve calls it, and awaits it, once the replica has drained.
        if hasattr(self, "_ingress"):
            await self._ingress.drain()


def build(args: dict[str, Any]) -> Application:
    """Serve's builder. `args` is a `DeploymentSpec` in plain types. Raises `msgspec.ValidationError`."""
    spec = msgspec.convert(args, DeploymentSpec)
    deployment = serve.deployment(
        name="engine",
        num_replicas=spec.replicas,
        max_ongoing_requests=spec.max_ongoing_requests,
        # Serve counts a request as queued until it has taken its slot, so a burst that fits needs as much room there.
        # Waiting belongs to the gateway: beyond these Serve answers 503.
        max_queued_requests=spec.max_ongoing_requests,
        # Engines choose their threads themselves; a reservation would only keep replicas from starting.
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=LONGEST_STREAM_S,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5,
        health_check_timeout_s=20,
        logging_config={"enable_access_log": False},
    )(EngineReplica)
    return deployment.bind(msgspec.to_builtins(spec))
