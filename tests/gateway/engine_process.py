"""A simulated engine behind the real ingress, as a process of its own: `python -m tests.gateway.engine_process PORT
RECORDS_DIR OPTIONS`, the last one as JSON.

It writes its records as a replica in Ray does: to the region's Valkey under the engine's own user, else to a file.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn

from chappe_serving.engines.registry import build_engine
from chappe_serving.ingress import Ingress
from chappe_serving.records import RecordWriter

REPORT_S = 0.25
"""Sooner than in production: what is silence to a matcher must be many times longer, also on a machine that is busy."""


class Replica:
    """The ingress, started inside its server's loop."""

    def __init__(self, redis_url: str, records_dir: Path, options: dict[str, Any]) -> None:
        self._engine = build_engine("simulated", options)
        self._records = RecordWriter(redis_url, records_dir)
        self._ingress = Ingress(self._engine, self._records, record_every_s=REPORT_S)
        self._started = False

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # ASGI, as the ingress has it
        if not self._started:
            self._started = True
            await self._records.start()
            await self._engine.start()
        await self._ingress(scope, receive, send)


def main() -> None:
    port, records_dir, options = sys.argv[1:]
    replica = Replica(os.environ["ENGINE_REDIS_URL"], Path(records_dir), json.loads(options))
    uvicorn.run(replica, port=int(port), log_config=None, access_log=False, lifespan="on")


if __name__ == "__main__":
    main()
