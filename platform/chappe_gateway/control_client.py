"""The region's side of the internal API (`chappe_kernel.wire.control`): typed calls, errors as the kernel's."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar
from urllib.parse import quote
from uuid import UUID

import msgspec

from chappe_gateway.engines.upstream import HttpClient, Reply, UpstreamLost
from chappe_kernel.errors import ChappeError, InsufficientFunds, Unauthenticated, Unavailable
from chappe_kernel.wire.control import (
    DATABASE_TIME,
    AskContentTerms,
    AskGrant,
    ContentHolder,
    ContentTerms,
    DeploymentSpec,
    Grant,
    Heartbeat,
    KeptGrant,
    KeyChanges,
    KeyFacts,
    Recalls,
    ResolveKey,
    ReturnGrant,
    Snapshot,
    UsageReceipt,
)

T = TypeVar("T")

_ROOT = b"/internal/v1"
_DATABASE_TIME = DATABASE_TIME.encode()
_OK = range(200, 300)
_NOT_MODIFIED = 304
_PAYMENT_REQUIRED = 402
_NOT_FOUND = 404
_REFUSED_FOR_GOOD = (400, 404, 409)
_MONTHLY_BUDGET = "monthly_budget_reached"


class ControlUnreachable(Unavailable):
    """No usable answer: it is unknown whether the call had its effect."""

    default_code = "control_unreachable"


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""
    param: str | None = None


class _RawBatch(msgspec.Struct):
    """`UsageBatch`, with events that are JSON already."""

    gateway: str
    events: msgspec.Raw


class SnapshotAnswer(NamedTuple):
    """`snapshot` is `None` when the version that was asked with is still the newest."""

    snapshot: Snapshot | None
    database_time: datetime | None


class ControlClient:
    """One control plane, called as one region."""

    def __init__(self, base_url: str, credential: str, *, timeout_s: float = 3.0) -> None:
        self._http = HttpClient(base_url)
        self._headers = (
            b"authorization: Bearer %b\r\naccept: application/json\r\ncontent-type: application/json\r\n"
            % credential.encode()
        )
        self._timeout_s = timeout_s

    async def read_snapshot(self, version: str | None) -> SnapshotAnswer:
        """Raises `ControlUnreachable`."""
        condition = b'if-none-match: "%b"\r\n' % version.encode() if version else b""
        reply = await self._call(b"GET", b"/snapshot", condition=condition)
        database_time = _time(reply.headers.get(_DATABASE_TIME))
        if reply.status == _NOT_MODIFIED:
            return SnapshotAnswer(None, database_time)
        _expect_ok(reply)
        return SnapshotAnswer(_decode(reply, Snapshot), database_time)

    async def read_deployments(self) -> list[DeploymentSpec]:
        """What should run in this region. Raises `ControlUnreachable`."""
        reply = await self._call(b"GET", b"/deployments")
        _expect_ok(reply)
        return _decode(reply, list[DeploymentSpec])

    async def send_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Raises `ControlUnreachable`."""
        _expect_ok(await self._call(b"POST", b"/heartbeat", heartbeat))

    async def read_key_changes(self, since: int, epoch: str) -> KeyChanges:
        """Raises `ControlUnreachable`."""
        path = b"/keys/changes?since=%d&epoch=%b" % (since, quote(epoch, safe="").encode())
        reply = await self._call(b"GET", path)
        _expect_ok(reply)
        return _decode(reply, KeyChanges)

    async def resolve_key(self, question: ResolveKey) -> KeyFacts:
        """Raises `Unauthenticated` for a key that nobody has, `ControlUnreachable`."""
        reply = await self._call(b"POST", b"/keys/resolve", question)
        if reply.status == _NOT_FOUND:
            raise Unauthenticated("this API key does not exist")
        _expect_ok(reply)
        return _decode(reply, KeyFacts)

    async def read_content_terms(self, holders: Sequence[ContentHolder]) -> list[ContentTerms]:
        """Raises `ControlUnreachable`."""
        reply = await self._call(b"POST", b"/content/terms", AskContentTerms(tuple(holders)))
        _expect_ok(reply)
        return _decode(reply, list[ContentTerms])

    async def ask_grant(self, ask: AskGrant) -> Grant:
        """Raises `InsufficientFunds`, `Unavailable` (`budget_unavailable`), `ControlUnreachable`."""
        reply = await self._call(b"POST", b"/grants", ask)
        if reply.status == _PAYMENT_REQUIRED:
            problem = _problem(reply)
            if problem.code == _MONTHLY_BUDGET:
                raise InsufficientFunds(problem.detail, code=_MONTHLY_BUDGET, param=problem.param)
            raise InsufficientFunds("the tenant's funds do not cover this request")
        if reply.status not in _OK and _problem_code(reply) == "budget_unavailable":
            raise Unavailable(
                "the money that this request needs is lent to requests that still run; try again",
                code="budget_unavailable",
            )
        _expect_ok(reply)
        return _decode(reply, Grant)

    async def return_grant(self, grant_id: UUID, returned_nano: int) -> bool:
        """Whether the control plane has it now, or knows no such grant any more. Raises `ControlUnreachable`."""
        path = b"/grants/%b/returned" % str(grant_id).encode()
        reply = await self._call(b"PUT", path, ReturnGrant(returned_nano))
        return reply.status in _OK or reply.status == _NOT_FOUND

    async def keep_grant(self, grant_id: UUID, kept: KeptGrant) -> None:
        """Tell a restored database of it. A refusal is final, and no error. Raises `ControlUnreachable`."""
        reply = await self._call(b"PUT", b"/grants/%b/kept" % str(grant_id).encode(), kept)
        if reply.status not in _REFUSED_FOR_GOOD:
            _expect_ok(reply)

    async def read_recalls(self, gateway: str, cursor: str, wait_s: float) -> Recalls:
        """What others need of what this gateway leased; waits for it so long. Raises `ControlUnreachable`."""
        query = f"gateway={quote(gateway, safe='')}&cursor={quote(cursor, safe='')}&wait_s={wait_s}"
        reply = await self._call(b"GET", b"/grants/recalls?" + query.encode())
        _expect_ok(reply)
        return _decode(reply, Recalls)

    async def send_usage(self, gateway: str, events_json: bytes) -> UsageReceipt:
        """Send a JSON array of `UsageEvent` as it is. Safe to repeat. Raises `ControlUnreachable`."""
        reply = await self._call(b"POST", b"/usage", _RawBatch(gateway, msgspec.Raw(events_json)))
        _expect_ok(reply)
        return _decode(reply, UsageReceipt)

    def close(self) -> None:
        self._http.close()

    async def _call(
        self, method: bytes, path: bytes, message: msgspec.Struct | None = None, condition: bytes = b""
    ) -> Reply:
        body = b"" if message is None else msgspec.json.encode(message)
        try:
            return await self._http.fetch(
                method, _ROOT + path, self._headers + condition, body, timeout_s=self._timeout_s
            )
        except (UpstreamLost, TimeoutError):
            raise ControlUnreachable("the control plane does not answer") from None


def _expect_ok(reply: Reply) -> None:
    if reply.status not in _OK:
        raise ControlUnreachable(f"the control plane answered {reply.status} {_problem_code(reply)}".rstrip())


def _problem_code(reply: Reply) -> str:
    return _problem(reply).code


def _problem(reply: Reply) -> _Problem:
    try:
        return msgspec.json.decode(reply.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Problem()


def _time(header: bytes | None) -> datetime | None:
    try:
        at = datetime.fromisoformat((header or b"").decode())
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _decode(reply: Reply, cls: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=cls)
    except (msgspec.DecodeError, UnicodeDecodeError, ChappeError):
        # Not chained: the cause may show the body, which holds peppers or digests.
        raise ControlUnreachable(f"the control plane's {cls.__name__} is not understood") from None
