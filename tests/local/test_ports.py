"""A port that is taken is found before anything starts; one that is only closing is no obstacle."""

import os
import socket

from chappe_local import ports


def test_listener_is_named_with_another_choice() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        (busy,) = ports.busy_ports({port: "control"})
    text = ports.explain_busy([busy], 8400)
    assert f"port {port} (for control) is in use by" in text
    assert f"pid {os.getpid()}" in text
    assert "CHAPPE_PORT_BASE=9400" in text
    assert "CHAPPE_PORT_BASE=63536" in ports.explain_busy([busy], 64536)


def test_closing_connection_is_no_listener() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listener.accept()
    accepted.close()
    client.close()
    assert ports.busy_ports({port: "control"}) == []
