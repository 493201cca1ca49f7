"""A slip opens for the region's gateways alone, exactly as it was sealed; a spool has one living owner."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_gateway.usage.slips import Slip, SlipSeal
from chappe_gateway.usage.spool import Life, Spool
from chappe_gateway.usage.spool_lock import SpoolLock, SpoolTaken
from chappe_kernel.ids import new_id
from chappe_kernel.rating import Price

ids = st.uuids()
numbers = st.integers(0, 2**62)
slips = st.builds(
    Slip,
    *(ids for _ in range(6)),
    listing=st.text(max_size=40),
    price=st.tuples(numbers, numbers, numbers, numbers),
    hold_nano=numbers,
    max_prompt_tokens=numbers,
    max_completion_tokens=numbers,
    started_at=st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(slips, ids)
def test_any_gateway_of_the_region_opens_what_another_sealed(slip: Slip, life: UUID) -> None:
    sealed = SlipSeal("credential", "fr-par", life).seal(slip)
    assert sealed.isascii()
    assert sealed.startswith(life.hex)
    opened = SlipSeal("credential", "fr-par", new_id()).open(sealed)
    assert opened == slip
    assert opened.rates() == Price(*slip.price)
    assert SlipSeal("another", "fr-par", life).open(sealed) is None
    assert SlipSeal("credential", "de-fra", life).open(sealed) is None


@given(slips, ids, st.data())
def test_a_changed_slip_opens_for_nobody(slip: Slip, life: UUID, data: st.DataObject) -> None:
    # What is drawn later depends on the seal, so its life is drawn as well.
    seal = SlipSeal("credential", "fr-par", life)
    sealed = seal.seal(slip)
    at = data.draw(st.integers(0, len(sealed) - 5))  # the last characters may be padding
    other = data.draw(st.sampled_from("09afAZ-_").filter(lambda one: one != sealed[at]))
    assert seal.open(sealed[:at] + other + sealed[at + 1 :]) is None
    assert seal.open(sealed[:at]) is None


@given(st.text())
def test_noise_opens_nothing(noise: str) -> None:
    assert SlipSeal("credential", "fr-par", new_id()).open(noise) is None


async def test_a_spool_has_one_owner_and_dying_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "gw.sqlite"
    code = (
        "import asyncio, sys, time; from pathlib import Path; from chappe_gateway.usage.spool_lock import SpoolLock\n"
        "asyncio.run(SpoolLock(Path(sys.argv[1])).take()); print('has it', flush=True); time.sleep(60)"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path), stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"has it\n"
    lock = SpoolLock(path)
    with pytest.raises(SpoolTaken):
        await lock.take(wait_s=0.2)
    with pytest.raises(SpoolTaken):
        await Spool(path, max_rows=1, min_free_bytes=0).open()
    assert not path.exists()
    owner.kill()
    await owner.wait()
    await lock.take()
    lock.release()


async def test_lives_are_kept_in_order_and_a_closed_spool_is_free(tmp_path: Path) -> None:
    path = tmp_path / "gw.sqlite"
    lives = [Life(new_id(), "fr-par", "gw", f"{number}-0") for number in range(3)]
    for number, life in enumerate(lives):
        spool = Spool(path, max_rows=1, min_free_bytes=0)
        await spool.open()
        assert await spool.lives() == lives[:number]
        await spool.begin(life)
        with pytest.raises(SpoolTaken):
            await Spool(path, max_rows=1, min_free_bytes=0).open()
        spool.close()
