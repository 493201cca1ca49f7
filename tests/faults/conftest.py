"""What other suites run on, for the faults that need it: a control plane with everybody, and a gateway."""

from tests.access.conftest import access
from tests.gateway.conftest import gateway, gateway_redis_url, world

__all__ = ["access", "gateway", "gateway_redis_url", "world"]
