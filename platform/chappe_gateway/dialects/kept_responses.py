"""Responses that are kept: their context for the next turn, and what can be asked for again.

Each keeps what it was asked and what it said, and which one it followed. So what is deleted is nowhere else, and a turn
that follows it, however late, cannot go on.
"""

import sqlite3
from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_gateway.access.rights import Visitor
from chappe_gateway.content.asking import kept_for, locate, no_such, owner_of, public_id
from chappe_gateway.content.objects import Kind, Name
from chappe_gateway.dialects.responses_answer import ResponsesTelling
from chappe_gateway.dialects.responses_request import Asked
from chappe_gateway.edge.call import Call
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import ChappeError, Invalid, Unavailable
from chappe_kernel.wire.engine import End, Message

_PREVIOUS = "previous_response_id"
# Beside what was asked, an answer of usual length must fit.
_ROOM_BYTES = 64 * 1024


class Turn(Struct, frozen=True):
    """What is kept of one response."""

    asked: tuple[Message, ...]
    """Its input, without what came before and without its instructions."""
    said: Message
    previous: UUID | None
    response: msgspec.Raw
    """As it was told."""


class Context(Struct, frozen=True):
    """What came before, oldest first."""

    messages: tuple[Message, ...] = ()
    size: int = 0
    """In bytes, as JSON: no prompt has more tokens."""


_decoder = msgspec.json.Decoder(Turn)


def keeps(visitor: Visitor, asked: Asked) -> bool:
    """Whether the answer is to be kept: as OpenAI has it, unless the client says no. Raises `Invalid` when it says yes
    and its organisation no, or goes on from what nobody keeps."""
    may = visitor.facts.content_kept_for_s > 0
    for param, is_asked in (("store", asked.store is True), (_PREVIOUS, asked.previous is not None)):
        if is_asked and not may:
            raise Invalid(
                f"`{param}` is not supported here: the organisation lets its regions keep no content",
                code="unsupported_parameter",
                param=param,
            )
    return may and asked.store is not False


async def read_context(gateway: Gateway, visitor: Visitor, previous: str | None, path: str) -> Context:
    """Raises `NotFound`, `WrongRegion`, and `Invalid` when it is longer than any body may be."""
    if previous is None:
        return Context()
    name = locate(gateway, visitor, Kind.RESPONSE, previous, path, param=_PREVIOUS)
    objects, limit_bytes = gateway.content.objects, gateway.settings.max_body_bytes

    def walk(db: sqlite3.Connection) -> list[Turn]:
        turns: list[Turn] = []
        size = 0
        step: UUID | None = name.id
        while step is not None:
            found = objects.find(db, name._replace(id=step))
            if found is None:
                raise no_such(Kind.RESPONSE, _PREVIOUS)
            size += found.size
            if size > limit_bytes:
                raise Invalid("the context is too long", code="context_length_exceeded", param=_PREVIOUS)
            turns.append(_decoder.decode(objects.body(db, found.name)))
            step = turns[-1].previous
        return turns

    turns = await gateway.content.do(walk)
    messages = [message for turn in reversed(turns) for message in (*turn.asked, turn.said)]
    return Context(tuple(messages), len(msgspec.json.encode(messages)))


async def begin_keeping(
    gateway: Gateway, call: Call, visitor: Visitor, asked: Asked, *, told: ResponsesTelling, size: int
) -> None:
    """Have the call keep its answer. Raises `TooLarge`, `Unavailable` when there is no room for it."""
    name = Name(owner_of(visitor), Kind.RESPONSE, call.id)
    previous = None
    if asked.previous is not None:
        previous = locate(gateway, visitor, Kind.RESPONSE, asked.previous, "", param=_PREVIOUS).id
    kept_for_s = kept_for(visitor)
    await gateway.content.check_room(name.owner, size + _ROOM_BYTES)

    async def keep(_: bytes, end: End) -> None:
        turn = Turn(asked.own, told.said(), previous, msgspec.Raw(told.finished(end)))
        try:
            await gateway.content.put(name, b"", msgspec.json.encode(turn), kept_for_s)
        except ChappeError as error:
            raise Unavailable("the answer could not be kept", code=error.code) from None

    call.keep_as_well(keep)


async def read_turn(gateway: Gateway, name: Name) -> Turn:
    """Raises `NotFound`."""
    if await gateway.content.get(name) is None:
        raise no_such(name.kind)
    return _decoder.decode(await gateway.content.read(name))


def input_items(name: Name, messages: Sequence[Message], region: str) -> list[dict[str, object]]:
    """What it was asked, as items of the Responses API."""
    kept = public_id(name.kind, name.id, region).removeprefix("resp_")
    return [item for index, message in enumerate(messages) for item in _items(message, f"{kept}_{index}")]


def _items(message: Message, place: str) -> list[dict[str, object]]:
    if message.role == "tool":
        result = {"call_id": message.tool_call_id, "output": message.content}
        return [{"id": f"fco_{place}", "type": "function_call_output", "status": "completed", **result}]
    items: list[dict[str, object]] = []
    if message.content or not message.tool_calls:
        said = {"role": message.role, "status": "completed", "content": [_part(message)]}
        items.append({"id": f"msg_{place}", "type": "message", **said})
    for number, call in enumerate(message.tool_calls):
        called = {"call_id": call.id, "name": call.name, "arguments": call.arguments, "status": "completed"}
        items.append({"id": f"fc_{place}_{number}", "type": "function_call", **called})
    return items


def _part(message: Message) -> dict[str, object]:
    if message.role == "assistant":
        return {"type": "output_text", "text": message.content, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": message.content}
