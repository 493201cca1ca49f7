"""Which instance this is: its folders, its ports, and what the environment replaces."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chappe_kernel.errors import Invalid
from chappe_kernel.state_dir import state_dir
from chappe_local.manifest import Cell, cells
from chappe_local.processes import Mark

DEFAULT_PORT_BASE = 8400
PORTS_PER_INSTANCE = 1000
LAST_PORT_BASE = 65536 - PORTS_PER_INSTANCE
_FIRST_FREE_PORT = 1024
_RAY_OFFSET = 100
_RAY_PORTS = 300
_MARKER_DIGITS = 10


@dataclass(frozen=True)
class Instance:
    """One Chappe on this machine. Its state folder is its identity."""

    state_dir: Path
    runtime_dir: Path
    """For sockets and Ray's session: short, and removed when the instance goes down."""
    marker: str
    """Every process of this instance carries it in its environment as CHAPPE_INSTANCE."""
    port_base: int
    cells: tuple[Cell, ...]

    @property
    def logs_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def run_file(self) -> Path:
        return self.state_dir / "run.json"

    @property
    def control_socket(self) -> Path:
        return self.runtime_dir / "supervisor.sock"

    @property
    def process_file(self) -> Path:
        return self.runtime_dir / "processes.json"

    @property
    def supervisor_file(self) -> Path:
        """Which process the supervisor is."""
        return self.runtime_dir / "supervisor.json"

    @property
    def ray_dir(self) -> Path:
        """Closed to others, because Ray opens its own folders below to everybody."""
        return self.runtime_dir / "r"

    @property
    def temp_dir(self) -> Path:
        return self.runtime_dir / "tmp"

    @property
    def mark(self) -> Mark:
        return Mark(self.marker, self.runtime_dir / "cwd")

    @property
    def control_port(self) -> int:
        return self.port_base

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.control_port}"

    @property
    def portal_url(self) -> str:
        """For people's links: passkeys need a domain, and cookies are kept by host."""
        return f"http://localhost:{self.control_port}"

    @property
    def smtp_port(self) -> int:
        return self.port_base + 1

    @property
    def mail_port(self) -> int:
        return self.port_base + 2

    @property
    def mail_url(self) -> str:
        """Where a person reads what the instance sent."""
        return f"http://localhost:{self.mail_port}"

    @property
    def vies_port(self) -> int:
        return self.port_base + 4

    @property
    def vies_url(self) -> str:
        """Of the stand-in for the Commission's register of VAT numbers."""
        return f"http://127.0.0.1:{self.vies_port}"

    @property
    def stripe_port(self) -> int:
        return self.port_base + 3

    @property
    def stripe_url(self) -> str:
        """Where a person pays, when the stand-in is the payment service."""
        return f"http://localhost:{self.stripe_port}"

    @property
    def stripe_api_url(self) -> str:
        """Where the control plane calls it."""
        return f"http://127.0.0.1:{self.stripe_port}"

    def gateway_port(self, cell: Cell) -> int:
        return self.port_base + 11 + 10 * cell.index

    def gateway_url(self, cell: Cell) -> str:
        return f"http://127.0.0.1:{self.gateway_port(cell)}"

    def metrics_port(self, cell: Cell) -> int:
        """Where Prometheus reads the cell's gateway."""
        return self.port_base + 13 + 10 * cell.index

    def serving_port(self, cell: Cell) -> int:
        return self.port_base + 12 + 10 * cell.index

    def serving_url(self, cell: Cell) -> str:
        return f"http://127.0.0.1:{self.serving_port(cell)}"

    def ray_port_base(self, cell: Cell) -> int:
        return self.port_base + _RAY_OFFSET + _RAY_PORTS * cell.index

    def ports(self) -> dict[int, str]:
        """Every port that this instance may listen on, with the part that does."""
        found = {
            self.control_port: "control",
            self.smtp_port: "mail",
            self.mail_port: "mail",
            self.stripe_port: "stripe",
            self.vies_port: "vies",
        }
        for cell in self.cells:
            found[self.gateway_port(cell)] = found[self.metrics_port(cell)] = cell.part("gateway")
            found[self.serving_port(cell)] = cell.part("serving")
            first = self.ray_port_base(cell)
            found |= dict.fromkeys(range(first, first + _RAY_PORTS), cell.part("serving"))
        return found


def current_instance(environ: Mapping[str, str]) -> Instance:
    """The instance that CHAPPE_STATE_DIR and CHAPPE_PORT_BASE name. Raises `Invalid` for an impossible value."""
    folder = state_dir(environ).resolve()
    marker = hashlib.sha256(str(folder).encode()).hexdigest()[:_MARKER_DIGITS]
    # Not TMPDIR: a socket's path may have 107 characters, and Ray's are long.
    runtime_dir = Path("/tmp") / f"chappe-{marker}"  # noqa: S108 -- make_folders checks whose it is
    return Instance(folder, runtime_dir, marker, _port_base(environ), cells())


def make_folders(instance: Instance) -> None:
    """State and runtime folders, closed to others. Raises `PermissionError` if somebody else owns the runtime folder.

    For root they may be passed, though not listed: PostgreSQL runs as another user in folders of its own below.
    """
    mode = 0o700 if os.geteuid() else 0o711
    for folder in (instance.state_dir, instance.runtime_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise PermissionError(f"{folder} belongs to somebody else; remove it or choose another CHAPPE_STATE_DIR")
        folder.chmod(mode)
    for folder in (instance.logs_dir, instance.temp_dir, instance.ray_dir, instance.state_dir / "spool"):
        folder.mkdir(mode=0o700, exist_ok=True)


def _port_base(environ: Mapping[str, str]) -> int:
    text = environ.get("CHAPPE_PORT_BASE") or str(DEFAULT_PORT_BASE)
    base = int(text) if text.isascii() and text.isdigit() else 0
    if not _FIRST_FREE_PORT <= base <= LAST_PORT_BASE:
        raise Invalid(
            f"CHAPPE_PORT_BASE must be a number from {_FIRST_FREE_PORT} to {LAST_PORT_BASE}", param="CHAPPE_PORT_BASE"
        )
    return base
