"""How the gateway processes of a region agree on one dispatcher and tell each other about turns: by the region's Redis.

A lease says who the dispatcher is; messages go by pub/sub, which may lose them. What follows from all that is decided
in `chappe_kernel.fairness.office`. While Redis is away each process goes on by itself.
"""

import asyncio
import contextlib
from typing import Any

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from chappe_gateway.region_redis import answered
from chappe_gateway.turns.turns import Turns
from chappe_kernel.clock import Clock
from chappe_kernel.fairness.office import LEASE_S, TICK_S, Envelope
from chappe_kernel.fairness.post import Role

_log = structlog.get_logger()

# KEYS[1] who is the dispatcher, under which number; KEYS[2] who is there. ARGV[1] who asks, ARGV[2] for how many
# milliseconds. The number is Redis's time, so that it grows even over a FLUSHALL.
_LOOK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local holder = redis.call('GET', KEYS[1])
if not holder then
  holder = string.format('%d ', now) .. ARGV[1]
  redis.call('SET', KEYS[1], holder, 'PX', ARGV[2])
elseif string.match(holder, '^%d+ (.*)$') == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {holder, redis.call('ZRANGE', KEYS[2], 0, -1)}
"""
# KEYS as above, ARGV[1] who leaves.
_LEAVE = """
local holder = redis.call('GET', KEYS[1])
if holder and string.match(holder, '^%d+ (.*)$') == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('ZREM', KEYS[2], ARGV[1])
"""
# KEYS as above, ARGV[1] what the lease says if it is still that of one who does not listen.
_DEPOSE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
_AWAY = (RedisError, OSError, TimeoutError)
_HUNG_S = 5.0


class RegionTurns:
    """One gateway process among those of its region."""

    def __init__(self, redis_client: "redis.asyncio.Redis", clock: Clock, region: str, turns: Turns) -> None:
        self._redis = redis_client
        self._clock = clock
        self._turns = turns
        self._office = turns.office
        self._prefix = f"chappe:turns:{region}:"
        self._keys = [self._prefix + "dispatcher", self._prefix + "present"]
        self._look_script = redis_client.register_script(_LOOK)
        self._depose_script = redis_client.register_script(_DEPOSE)
        self._leave_script = redis_client.register_script(_LEAVE)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Envelope)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        turns.on_news = self._news.set

    async def look(self) -> None:
        """Who is the dispatcher: this process, if nobody is."""
        asked_at = self._clock.monotonic()
        role = self._office.role
        with contextlib.suppress(*_AWAY):
            args: list[str | int] = [self._office.name, int(LEASE_S * 1000)]
            holder, present = await answered(self._look_script(keys=self._keys, args=args))
            fence, _, name = holder.decode().partition(" ")
            others = (other.decode() for other in present)
            self._office.led_by(name, int(fence), others, asked_at, self._clock.monotonic())
        self._go_on(role)

    async def run(self) -> None:
        """Look, listen and tell, for ever."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = [tasks.create_task(work) for work in (self._look_often(), self._listen(), self._tell())]

    def stop(self) -> None:
        """Neither look nor listen nor tell any more."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Leave at once, so that nobody waits for the lease to end."""
        with contextlib.suppress(*_AWAY):
            await answered(self._leave_script(keys=self._keys, args=[self._office.name]))

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.look()
            role = self._office.role
            self._office.tick(self._clock.monotonic())
            self._go_on(role)

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(*_AWAY):
                async with self._redis.pubsub() as pubsub:
                    await answered(pubsub.subscribe(self._prefix + self._office.name))
                    heard_at = self._clock.monotonic()
                    while self._office.peers == 1 or self._clock.monotonic() - heard_at < _HUNG_S:
                        message: Any = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                        if message is not None:
                            heard_at = self._clock.monotonic()
                            self._hear(message["data"])
            await asyncio.sleep(TICK_S)

    def _hear(self, data: bytes) -> None:
        try:
            envelope = self._decoder.decode(data)
        except msgspec.DecodeError:
            # Of another version of this program.
            _log.warning("region_message_unreadable")
            return
        role = self._office.role
        self._office.hear(envelope, self._clock.monotonic())
        self._go_on(role)

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            for receiver, envelope in self._office.envelopes(self._clock.monotonic()):
                data = self._encoder.encode(envelope)
                with contextlib.suppress(*_AWAY):
                    heard_by = await answered(self._publish(receiver, data))
                    if heard_by == 0:
                        # Whoever it is has gone: nobody waits until that shows by its silence. But who came since the
                        # last look may run what the dispatcher granted it.
                        await self.look()
                        role = self._office.role
                        self._office.nobody_listens(receiver, self._clock.monotonic())
                        self._go_on(role)
                        await self._depose()

    async def _depose(self) -> None:
        """Nor until the lease of one that does not listen ends."""
        holder = self._office.deaf_holder(self._clock.monotonic())
        if holder is not None:
            name, fence = holder
            await answered(self._depose_script(keys=self._keys[:1], args=[f"{fence} {name}"]))
            await self.look()

    async def _publish(self, receiver: str, data: bytes) -> int:
        return int(await self._redis.publish(self._prefix + receiver, data))

    def _go_on(self, before: Role) -> None:
        """And whatever else follows for those who wait."""
        self._turns.resize()
        if self._office.role is not before:
            _log.info("turns_role", role=self._office.role.value, peers=self._office.peers)
