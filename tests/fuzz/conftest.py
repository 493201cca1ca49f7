"""The gateway suite's world; the gateways are processes of the tests' own."""

from tests.gateway.conftest import gateway_redis_url, world

__all__ = ["gateway_redis_url", "world"]
