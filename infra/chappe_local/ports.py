"""Ports that somebody else holds, found before anything is started."""

from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from chappe_local.instance import LAST_PORT_BASE, PORTS_PER_INSTANCE


@dataclass(frozen=True)
class BusyPort:
    port: int
    part: str
    """Who of ours wants it."""
    holder: str
    """A person's words for who has it."""


def busy_ports(wanted: Mapping[int, str]) -> list[BusyPort]:
    """The wanted ports on which something listens already.

    A port of a process that has just ended may be impossible to bind for a minute while its connections close. That is
    no obstacle: our own servers reuse such addresses, and Ray takes the next port of its range.
    """
    listening = {
        connection.laddr.port: connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }
    return [
        BusyPort(port, part, _describe(listening[port])) for port, part in sorted(wanted.items()) if port in listening
    ]


def explain_busy(busy: list[BusyPort], port_base: int) -> str:
    """What is in the way and what to do about it, for a person."""
    lines = [f"port {entry.port} (for {entry.part}) is in use by {entry.holder}" for entry in busy[:5]]
    if len(busy) > len(lines):
        lines.append(f"and {len(busy) - len(lines)} more ports")
    step = PORTS_PER_INSTANCE
    other = port_base + step if port_base + step <= LAST_PORT_BASE else port_base - step
    lines.append(f"End that process, or use other ports: CHAPPE_PORT_BASE={other} make up")
    return "\n".join(lines)


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        process = psutil.Process(pid)
        return f"{process.name()} (pid {pid}: {' '.join(process.cmdline())[:80]})"
    except psutil.Error:
        return f"pid {pid}"
