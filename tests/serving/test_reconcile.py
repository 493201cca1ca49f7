"""The reconciler drives Serve to the catalogue, and nothing that is away stops it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from chappe_kernel.wire.control import DeploymentSpec
from chappe_serving.reconcile import Reconciler, ReconcilerSettings
from tests.serving.fakes import FakeControl, FakeDashboard

CHAT = DeploymentSpec("chat", "simulated", 2, 16, {"slots": 4})
EMBEDDINGS = DeploymentSpec("embeddings", "simulated", 1, 8, {})


class _Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.now_s


@dataclass
class World:
    control: FakeControl
    dashboard: FakeDashboard
    clock: _Clock
    reconciler: Reconciler
    token_path: Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    token_path = tmp_path / "token"
    async with (
        FakeControl.running([CHAT, EMBEDDINGS]) as control,
        FakeDashboard.running() as dashboard,
        aiohttp.ClientSession() as http,
    ):
        token_path.write_text(dashboard.token)
        settings = ReconcilerSettings("fr-par", control.url, control.credential, dashboard.url, 8412)
        clock = _Clock()
        yield World(control, dashboard, clock, Reconciler(settings, token_path, http, clock), token_path)


async def test_the_full_goal_is_put_once(world: World) -> None:
    assert not await world.reconciler.step()
    assert await world.reconciler.step()
    assert await world.reconciler.step()
    (put,) = world.dashboard.puts
    assert put["proxy_location"] == "HeadOnly"
    assert put["http_options"] == {"host": "127.0.0.1", "port": 8412}
    assert [(each["name"], each["route_prefix"]) for each in put["applications"]] == [
        ("chat", "/chat"),
        ("embeddings", "/embeddings"),
    ]


async def test_it_reports_what_runs_and_repeats_itself_only_when_it_must(world: World) -> None:
    await world.reconciler.step()
    await world.reconciler.step()
    assert [(each.name, each.state, each.replicas_running) for each in world.control.reported[-1]] == [
        ("chat", "running", 1),
        ("embeddings", "running", 1),
    ]
    reports = len(world.control.reported)
    await world.reconciler.step()
    assert len(world.control.reported) == reports
    world.clock.now_s += 11
    await world.reconciler.step()
    assert len(world.control.reported) == reports + 1


async def test_a_changed_catalogue_is_put_at_once(world: World) -> None:
    await world.reconciler.step()
    world.control.specs = [CHAT]
    await world.reconciler.step()
    assert [each["name"] for each in world.dashboard.puts[-1]["applications"]] == ["chat"]
    assert len(world.dashboard.puts) == 2


async def test_a_restarted_ray_gets_the_goal_again_at_once(world: World) -> None:
    await world.reconciler.step()
    await world.reconciler.step()
    world.dashboard.token = "not ours"
    assert not await world.reconciler.step()
    assert {each.state for each in world.control.reported[-1]} == {"unreachable"}
    world.dashboard.token = "a new cluster's"
    world.token_path.write_text("a new cluster's")
    world.dashboard.applications = {}
    await world.reconciler.step()
    assert len(world.dashboard.puts) == 2


async def test_without_the_control_plane_the_last_wish_still_holds(world: World) -> None:
    await world.reconciler.step()
    await world.reconciler.step()
    world.control.away = True
    world.dashboard.applications = {}
    world.clock.now_s += 60
    await world.reconciler.step()
    assert len(world.dashboard.puts) == 2


async def test_before_the_control_planes_first_word_nothing_is_touched(world: World) -> None:
    world.control.away = True
    await world.reconciler.step()
    assert world.dashboard.puts == []


async def test_a_failed_deployment_is_tried_again_less_and_less_often(world: World) -> None:
    world.dashboard.result = "DEPLOY_FAILED"
    puts = []
    for _ in range(100):
        await world.reconciler.step()
        puts.append(len(world.dashboard.puts))
        world.clock.now_s += 1
    assert puts[0] == 1
    assert 3 <= puts[-1] <= 6
