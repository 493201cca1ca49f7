"""Replay one seed: `make simulate SEED=7`, with `SCENARIO=flood`, `region`, `cells` or `regions` another kind of world.

Prints who got what, and how close the bound was.
"""

import argparse
import sys
from collections import Counter

from tests.simulator.cells import REGIONS, Cells
from tests.simulator.pair import PairWatch
from tests.simulator.region import RegionWorld, gateways_of, regional
from tests.simulator.regions import Regions
from tests.simulator.scenarios import PAIR, flood, mixed
from tests.simulator.world import Report, World

_COLUMNS = ("tenant", "asked", "done", "refused", "timed out", "left", "broken off", "tokens", "p99 TTFT s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenario", choices=("mixed", "flood", "region", "cells", "regions"), default="mixed")
    asked = parser.parse_args()
    if asked.scenario == "cells":
        _replay_cells(asked.seed)
        return
    if asked.scenario == "regions":
        _replay_regions(asked.seed)
        return
    if asked.scenario == "flood":
        alone = World(flood(asked.seed, flooding=False)).run()["good"]
        world = World(flood(asked.seed, flooding=True))
        beside = world.run()["good"]
        _print(world)
        ratio = beside.p99_ttft_s() / alone.p99_ttft_s()
        _say(f"p99 TTFT of good alone {alone.p99_ttft_s():.3f} s, beside the flood {ratio:.2f} times that")
        return
    watch = PairWatch()
    if asked.scenario == "region":
        world = RegionWorld(regional(asked.seed), gateways_of(asked.seed), watch=watch)
    else:
        world = World(mixed(asked.seed), watch)
    world.run()
    _print(world)
    _say(
        f"{' and '.join(PAIR)} were served up to {watch.gap} weighted tokens apart; "
        f"the bound is {2 * world.most_reserved}"
    )


def _replay_cells(seed: int) -> None:
    cells = Cells(seed)
    cells.run()
    regions = ", ".join(f"{sum(g.region == name for g in cells.gateways)} in {name}" for name in REGIONS)
    _say(f"seed {seed}: gateways {regions}; allowed {', '.join(cells.allowed)}; {cells.limit} tokens a minute")
    _say(f"{cells.admitted} admitted, {cells.refused} refused, {cells.deaths} gateways died")
    _say(f"funds {cells.bank.funds}, posted {cells.bank.posted}, nothing pending; every sum was right at every step")


def _replay_regions(seed: int) -> None:
    regions = Regions(seed)
    regions.run()
    ran = Counter(request.ran_in for request in regions.requests)
    _say(f"seed {seed}: {len(regions.requests)} requests, {regions.unreachable_tries} met a region that was cut off")
    for name, site in regions.sites.items():
        _say(
            f"{name}: {ran[name]} ran; {site.limit} at once, {site.prefill_s:.2f} s to a token, price {site.price_nano}"
        )
    _say(f"{ran[None]} found no region")


def _print(world: World) -> None:
    scenario = world.scenario
    _say(f"seed {scenario.seed}, {scenario.lasts_s:.1f} s, {scenario.engine}, {scenario.faults}")
    rows = [_COLUMNS, *(_row(name, report) for name, report in world.reports.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        _say("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    _say(f"in flight at most {world.most_running}, limit from {scenario.capacity} down to {world.least_limit}")


def _row(name: str, report: Report) -> tuple[str, ...]:
    counts = (
        report.asked,
        report.done,
        report.refused,
        report.timed_out,
        report.left,
        report.broken_off,
        report.tokens,
    )
    return (name, *map(str, counts), f"{report.p99_ttft_s():.3f}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
