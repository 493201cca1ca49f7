"""One gateway process among those of its region: who is the dispatcher, who is there, what was told and what got lost.

Whoever holds the region's lease is the dispatcher of all its deployments. Its number, the fence, only grows; what comes
under another one is not heard. A process is alone as long as it knows of no dispatcher that answers.
"""

import math
from collections.abc import Callable, Iterable

from msgspec import Struct

from chappe_kernel.fairness.desk import LOST_AFTER_S
from chappe_kernel.fairness.messages import ToDesk, ToMember
from chappe_kernel.fairness.post import Post, Role

LEASE_S = 3.0
TICK_S = 0.25
"""How often to `tick`, and to look at the lease."""
_SILENT_S = 1.5
"""A dispatcher that says nothing for so long is away."""
_BETWEEN_S = LEASE_S + 4 * TICK_S
"""A dispatcher that is gone has a successor by then."""
_REMEMBERED_S = 15.0
"""A process that was there so long ago may still run something."""
_STEPS_DOWN_S = LEASE_S * 0.8
"""A dispatcher whose lease was not renewed for so long leaves before it ends."""


class Envelope(Struct, frozen=True, array_like=True):
    """What one process sends another; numbered from 1 for each receiver."""

    sender: str
    fence: int
    number: int
    to_desk: dict[str, ToDesk] = {}
    to_member: dict[str, ToMember] = {}
    """Both by deployment."""
    tell_all: bool = False
    """Something of yours got lost."""


class Office:
    """All posts of one process. `new_post` makes one for a deployment's name and a number of processes."""

    def __init__(self, name: str, new_post: Callable[[str, int], Post], peers: int = 1) -> None:
        """`peers`: how many processes the region has, as long as nobody knows better."""
        self.name = name
        self.posts: dict[str, Post] = {}
        self.role = Role.ALONE
        self.peers = self._least_peers = max(1, peers)
        self._new_post = new_post
        self._seen: dict[str, float] = {}
        self._dispatcher = ""
        self._fence = 0
        self._leased_at = 0.0
        self._heard_at = 0.0
        self._looked_at = -math.inf
        self._between_until = -math.inf
        """Until then another dispatcher is expected, and nobody takes what others may still run."""
        self._present: frozenset[str] = frozenset()
        self._deaf: dict[str, float] = {}
        """Since when nobody listens by a name."""
        self._sent: dict[str, int] = {}
        self._received: dict[str, int] = {}
        self._members: dict[str, float] = {}
        """When the dispatcher heard of each process."""
        self._lost: set[str] = set()
        self._greet = True

    def post(self, deployment: str, now: float) -> Post:
        post = self.posts.get(deployment)
        if post is None:
            post = self.posts[deployment] = self._new_post(deployment, self.peers)
            self._put(post, now)
        return post

    def led_by(self, dispatcher: str, fence: int, present: Iterable[str], asked_at: float, now: float) -> None:
        """What the lease says: who holds it under which number, and which processes the region has."""
        others = [name for name in present if name != self.name]
        self._looked_at, self._present = now, frozenset(others)
        # Valkey may have forgotten who was there a moment ago.
        self._seen.update(dict.fromkeys(others, now))
        self._seen = {name: at for name, at in self._seen.items() if now - at < _REMEMBERED_S}
        self._deaf = {name: at for name, at in self._deaf.items() if name in self._seen}
        self.peers = max(self._least_peers, len(self._seen) + 1)
        if dispatcher == self.name:
            self._leased_at = asked_at
        if (dispatcher, fence) == (self._dispatcher, self._fence):
            return
        self._dispatcher, self._fence = dispatcher, fence
        self._sent, self._received, self._members, self._lost = {}, {}, {}, set()
        if dispatcher == self.name:
            # They are asked what they run, those who have died too: so that is found out at once.
            self._members = dict.fromkeys(self._seen, now)
        # One that does not answer is found out soon enough; until then nobody here runs what it has given to others.
        self._become(Role.DISPATCHER if dispatcher == self.name else Role.MEMBER, now)
        self._greet = True

    def be_alone(self, now: float, *, is_gone: bool = False) -> None:
        """Nobody can be reached. `is_gone`: it is known that the dispatcher runs nothing any more."""
        if self.role is not Role.ALONE:
            others = self._seen.keys() - ({self._dispatcher} if is_gone else set())
            # Without Valkey nobody else becomes the dispatcher, so there is nothing to wait for.
            is_between = bool(others) and now - self._looked_at <= _SILENT_S
            self._between_until = now + _BETWEEN_S if is_between else now
            self._become(Role.ALONE, now)
        if self._dispatcher == self.name:
            # To hold the lease is to be told so anew.
            self._dispatcher, self._fence = "", 0

    def nobody_listens(self, name: str, now: float) -> None:
        """Who was to be told something is not there. Then look at all posts' outcomes, and at `deaf_holder`."""
        since = self._deaf.setdefault(name, now)
        if self.role is Role.DISPATCHER:
            self._forget(name)
            for post in self.posts.values():
                post.nobody_listens(name, since, has_left=name not in self._present)
        elif self.role is Role.MEMBER and name == self._dispatcher:
            self.be_alone(now, is_gone=True)

    def deaf_holder(self, now: float) -> tuple[str, int] | None:
        """Who holds the lease, and under which number, if nobody has listened by its name for two looks: it has died,
        or cannot be a dispatcher. One that begins just now listens by then."""
        if self.role is Role.DISPATCHER or now - self._deaf.get(self._dispatcher, now) < 2 * TICK_S:
            return None
        return self._dispatcher, self._fence

    def hear(self, envelope: Envelope, now: float) -> None:
        """Then look at all posts' outcomes."""
        if envelope.fence != self._fence:
            return
        sender = envelope.sender
        self._deaf.pop(sender, None)
        is_gap = envelope.number != self._received.get(sender, 0) + 1
        self._received[sender] = envelope.number
        if self.role is Role.DISPATCHER:
            self._hear_member(envelope, is_gap=is_gap, now=now)
        elif sender == self._dispatcher:
            self._heard_at = now
            if self.role is Role.ALONE:
                self._become(Role.MEMBER, now)
                return
            if is_gap or envelope.tell_all:
                for post in self.posts.values():
                    post.tell_all()
            for deployment, message in envelope.to_member.items():
                # Of one that nothing was asked for here yet, too: the dispatcher waits to hear that nothing runs.
                self.post(deployment, now).hear_dispatcher(message, now)

    def tick(self, now: float) -> None:
        """Every `TICK_S`. Then look at all posts' outcomes."""
        self._greet = True
        if (self.role is Role.DISPATCHER and now - self._leased_at > _STEPS_DOWN_S) or (
            self.role is Role.MEMBER and now - self._heard_at > _SILENT_S
        ):
            self.be_alone(now)
        elif self.role is Role.ALONE and (now >= self._between_until or now - self._looked_at > _SILENT_S):
            for post in self.posts.values():
                post.take_part()
        for name in [name for name, heard_at in self._members.items() if now - heard_at > LOST_AFTER_S]:
            self._forget(name)
        for post in self.posts.values():
            post.tick(now)

    def envelopes(self, now: float) -> list[tuple[str, Envelope]]:
        """What there is to send, and to whom."""
        greet, self._greet = self._greet, False
        if self.role is Role.DISPATCHER:
            return self._to_members(greet=greet)
        if not self._dispatcher or self._dispatcher == self.name:
            return []
        told = ((name, post.to_dispatcher(now)) for name, post in self.posts.items())
        messages = {name: message for name, message in told if message is not None}
        if not (messages or greet):
            return []
        return [(self._dispatcher, self._envelope(self._dispatcher, to_desk=messages))]

    def _forget(self, name: str) -> None:
        self._members.pop(name, None)
        self._received.pop(name, None)
        self._sent.pop(name, None)

    def _hear_member(self, envelope: Envelope, *, is_gap: bool, now: float) -> None:
        sender = envelope.sender
        if sender not in self._members:
            self._greet = True
        self._members[sender] = now
        self._seen[sender] = now
        self.peers = max(self._least_peers, len(self._seen) + 1)
        if is_gap:
            self._lost.add(sender)
        for post in self.posts.values():
            post.is_alive(sender, now)
        for deployment, message in envelope.to_desk.items():
            self.post(deployment, now).hear_member(sender, message, now)

    def _to_members(self, *, greet: bool) -> list[tuple[str, Envelope]]:
        messages: dict[str, dict[str, ToMember]] = {name: {} for name in self._members if greet or name in self._lost}
        for deployment, post in self.posts.items():
            for name, message in post.to_members().items():
                if name in self._members:
                    messages.setdefault(name, {})[deployment] = message
        lost, self._lost = self._lost, set()
        return [(name, self._envelope(name, to_member=told, tell_all=name in lost)) for name, told in messages.items()]

    def _envelope(
        self,
        receiver: str,
        to_desk: dict[str, ToDesk] | None = None,
        to_member: dict[str, ToMember] | None = None,
        *,
        tell_all: bool = False,
    ) -> Envelope:
        number = self._sent[receiver] = self._sent.get(receiver, 0) + 1
        return Envelope(self.name, self._fence, number, to_desk or {}, to_member or {}, tell_all)

    def _become(self, role: Role, now: float) -> None:
        self.role = role
        self._heard_at = now
        for post in self.posts.values():
            self._put(post, now)

    def _put(self, post: Post, now: float) -> None:
        if self.role is Role.DISPATCHER:
            # Those who fell silent long ago run nothing here.
            post.be_dispatcher(now, [name for name in self._seen if name in self._members or name in self._deaf])
            for name, since in self._deaf.items():
                post.nobody_listens(name, since, has_left=name not in self._present)
        elif self.role is Role.MEMBER:
            post.be_member(now)
        elif post.role is not Role.ALONE or now < self._between_until:
            post.be_alone(now, keeps_to_held=now < self._between_until)
