"""What a well-behaved tenant feels beside a flood: `python -m tests.bench.flood_bench [--seconds 60]`.

Two gateway processes that have just started, Valkey, and a simulated engine with 32 slots. `good` asks for a third of
its share of what the engine can do, `flood` for 50 times its own, all as streams and at times that don't depend on
answers.
"""

import asyncio
import os
import statistics
import tempfile
from pathlib import Path

import click
import uvloop

from tests.fairness.flooded_region import Felt, cold_region


def _say(name: str, felt: Felt, alone: Felt | None = None) -> None:
    ratio = "" if alone is None else f", {felt.p99_ttft_s() / alone.p99_ttft_s():.2f} times alone"
    click.echo(
        f"{name}: {len(felt.ttft_s)} requests, TTFT p50 {statistics.median(felt.ttft_s):.3f} s, "
        f"p99 {felt.p99_ttft_s():.3f} s{ratio}"
    )


async def run(seconds: float, seed: int, flood_max_tokens: int | None) -> None:
    fields = {} if flood_max_tokens is None else {"max_tokens": flood_max_tokens}
    with tempfile.TemporaryDirectory() as folder:
        async with cold_region(Path(folder)) as region:
            async with region.flooded(seed, **fields) as flood:
                cold = await region.alone(seconds, seed)
                warm = await region.alone(seconds, seed)
            await asyncio.sleep(1.0)
            alone = await region.alone(seconds, seed)
    _say("alone", alone)
    _say("beside a flood, at gateways that just started", cold, alone)
    _say("beside it later", warm, alone)
    click.echo(f"the flood: {flood.statuses[200]} served, {flood.statuses[429]} told to come back")
    click.echo(f"load {os.getloadavg()[0]:.1f}")


@click.command()
@click.option("--seconds", type=float, default=60.0, help="Of each of the three.")
@click.option("--seed", type=int, default=1)
@click.option("--flood-max-tokens", type=int, default=None, help="Else the model's default.")
def main(seconds: float, seed: int, flood_max_tokens: int | None) -> None:
    uvloop.run(run(seconds, seed, flood_max_tokens))


if __name__ == "__main__":
    main()
