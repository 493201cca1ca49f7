"""One line of a batch on its way through the gateway: a request like any other, without a client."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from chappe_gateway.batches.model import BatchHead, Line
from chappe_gateway.dialects import chat, completions, embeddings, responses
from chappe_gateway.edge.call import CONNECTION_EXTENSION, Call, ClientGone
from chappe_gateway.gateway import Gateway
from chappe_gateway.turns.turns import PRIORITY_HEADER
from chappe_kernel.errors import ChappeError, LimitExceeded
from chappe_kernel.fairness.line import Priority, State

_SERVE: dict[str, Callable[[Gateway, Call], Awaitable[None]]] = {
    chat.PATH: chat.serve_chat,
    completions.PATH: completions.serve_completions,
    embeddings.PATH: embeddings.serve_embeddings,
    responses.PATH: responses.serve_creation,
}


class LineAnswer(NamedTuple):
    """What a client would have got."""

    status: int
    body: bytes
    refusal: ChappeError | None = None

    @property
    def retry_after_s(self) -> float:
        return self.refusal.retry_after_s if isinstance(self.refusal, LimitExceeded) else 1.0


class _Nobody:
    """Implements `Connection`: the whole body is there, and an answer is only taken down."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.answered: bytes | None = None

    def abort(self) -> None:
        """There is nothing to close."""

    def has_shown_certificate(self) -> bool:
        return False

    def watch(self, on_leaving: Callable[[], None]) -> None:
        """Nobody leaves."""

    def unwatch(self, on_leaving: Callable[[], None]) -> None:
        """Nor is anybody watched."""

    def take_body(self, _: Any) -> bytes:
        return self._body

    def answer(self, _: Any, head: bytes, body: bytes) -> bool:  # the port's
        self.answered = body
        return True

    def begin_stream(self, _: Any, head: bytes, data: bytes, *, more: bool) -> bool:  # the port's
        return False

    def limit_silence(self, within_s: float) -> None:
        """Nobody is to be heard."""

    def send_chunk(self, _: Any, data: bytes) -> bool:  # the port's
        return False

    def end_stream(self, _: Any, data: bytes) -> bool:  # the port's
        return False


class LineCall:
    """Runs once. `call` is its request, which may be cut off meanwhile."""

    def __init__(self, gateway: Gateway, head: BatchHead, line: Line) -> None:
        self._gateway = gateway
        self._nobody = _Nobody(bytes(line.body))
        scope = {
            "method": "POST",
            "path": head.endpoint,
            "raw_path": head.endpoint.encode(),
            "query_string": b"",
            "client": None,
            "headers": [
                (PRIORITY_HEADER, Priority.BATCH.value.encode()),
                *((b"x-chappe-region", region.encode("latin-1")) for region in head.regions),
            ],
            "extensions": {CONNECTION_EXTENSION: self._nobody},
        }
        self.call = Call(scope, _nothing_comes, _nobody_listens, gateway.clock, gateway.settings.region)
        self.call.stand_in = head.key

    @property
    def is_at_engine(self) -> bool:
        """Whether its turn has come."""
        turn = self.call.turn
        return turn is not None and turn.ticket.state is State.RUNNING

    async def run(self) -> LineAnswer:
        """Through admission, residency, limits, hold, engine, settlement and spool."""
        call = self.call
        try:
            await _SERVE[call.path](self._gateway, call)
        except ClientGone:
            raise AssertionError("nobody was there to leave") from None
        except ChappeError as refusal:
            answer = call.error_answer(refusal)
            return LineAnswer(answer.status, answer.body, refusal)
        finally:
            call.stop_watching()
        return LineAnswer(200, self._nobody.answered or b"")


async def _nothing_comes() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nobody_listens(_: Any) -> None:
    return
