"""`python -m chappe_local.stripe_stand_in STATE_FILE PORT`, with its secrets in the environment.

`STAND_IN_API_KEY` opens the API, `STAND_IN_SWITCH_TOKEN` the switches; `STAND_IN_WEBHOOKS` is JSON, a list of
`{"url": …, "secret": …}`, with `"events": [types]` for less than all.
"""

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import uvicorn

from chappe_kernel.process import prepare_process
from chappe_local.stripe_stand_in.server import Config, StandIn, serving
from chappe_local.stripe_stand_in.world import Endpoint


async def run(state: Path, port: int) -> None:
    config = Config(
        state=state,
        public_url=f"http://localhost:{port}",
        api_key=os.environ["STAND_IN_API_KEY"],
        switch_token=os.environ["STAND_IN_SWITCH_TOKEN"],
        endpoints=msgspec.json.decode(os.environ.get("STAND_IN_WEBHOOKS", "[]"), type=tuple[Endpoint, ...]),
    )
    application = StandIn(config)
    server = uvicorn.Server(serving(application, port))
    async with application.delivering() as courier:
        # Without its courier it would look well and tell nobody of anything.
        courier.add_done_callback(lambda _task: setattr(server, "should_exit", True))
        await server.serve()


if __name__ == "__main__":
    prepare_process("stripe")
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2])))
