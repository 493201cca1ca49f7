"""A region's Ray head: pure, within its ports, and without the caller's environment."""

from pathlib import Path

from chappe_serving.ray_head import PORTS_PER_CLUSTER, RayHead, head_command, head_environment

HEAD = RayHead("de-fra", 8800, Path("/tmp/chappe-x/r1"), Path("/tmp/chappe-x/token"), "unix://engine:pw@/tmp/s")  # noqa: S108


def test_every_port_is_inside_the_clusters_range() -> None:
    options = dict(each.split("=", 1) for each in head_command(HEAD) if "=" in each)
    ports = [int(value) for name, value in options.items() if "port" in name]
    ports += [int(value) for name, value in head_environment(HEAD, {}).items() if name.endswith("_PORT")]
    assert len(ports) > 15
    assert len(set(ports)) == len(ports)
    assert all(HEAD.port_base <= port < HEAD.port_base + PORTS_PER_CLUSTER for port in ports)


def test_no_secret_is_on_the_command_line() -> None:
    assert not [each for each in head_command(HEAD) if "pw" in each]


def test_of_the_callers_environment_only_the_needed_passes() -> None:
    made = head_environment(HEAD, {"PATH": "/bin", "CHAPPE_DATABASE_URL": "secret", "RAY_ADDRESS": "elsewhere"})
    assert made["PATH"] == "/bin"
    assert not {"CHAPPE_DATABASE_URL", "RAY_ADDRESS"} & made.keys()
    assert made["RAY_AUTH_MODE"] == "token"
