"""The gateway suite's world; the gateways are processes of the tests' own."""

from tests.bad_clients.conftest import gateway_redis_url, tmp_path, world

__all__ = ["gateway_redis_url", "tmp_path", "world"]
