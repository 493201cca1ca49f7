"""How a model writes that it calls a function, and what its words mean then. Pure.

The form is that of Hermes 2, which Qwen and many others were trained on, and others can be shown in their prompt:

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

The grammar (`constraint.py`) leaves no other way to write the part before the arguments and after them. In JSON a raw
newline stands between values only, and no value begins with `<`: so the arguments' end cannot be forged inside them.
"""

from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

BEGIN = "<tool_call>\n"
END = "}\n</tool_call>"
_NAME = '{"name": "'
_ARGUMENTS = '", "arguments": '
BETWEEN = "\n"


def head_of(name: str) -> str:
    """What stands between `BEGIN` and the arguments."""
    return _NAME + name + _ARGUMENTS


class Text(NamedTuple):
    """The model's words for the reader."""

    text: str


class Begin(NamedTuple):
    """It calls a function."""

    name: str


class Arguments(NamedTuple):
    """More of the arguments of the call that was begun last."""

    text: str


Piece: TypeAlias = Text | Begin | Arguments
_Said = TypeVar("_Said", Text, Arguments)


class CallReader:
    """Reads one answer. What may become a call, or may be its end, waits until that is known."""

    def __init__(self) -> None:
        self._waiting = ""
        self._where = self._in_text
        self._said = ""
        """Of the open call's arguments."""
        self.calls = 0
        self.is_open = False
        """Whether a call has begun that has not ended."""

    def feed(self, text: str) -> list[Piece]:
        self._waiting += text
        pieces: list[Piece] = []
        while (piece := self._where()) is not None:
            if not isinstance(piece, Text | Arguments) or piece.text:
                pieces.append(piece)
        return pieces

    def end(self) -> list[Piece]:
        """What waited for more that does not come; a call's beginning that never became one is nothing."""
        waiting, self._waiting = self._waiting, ""
        if not waiting or self._where == self._in_head:
            return []
        if self._where == self._in_arguments:
            # Arguments that are whole have ended: what waits is the beginning of their end.
            return [] if _is_json(self._said) else [Arguments(waiting)]
        return [Text(waiting)] if self.calls == 0 else []

    def _in_text(self) -> Piece | None:
        text, found, rest = self._waiting.partition(BEGIN)
        if found:
            self._waiting, self._where, self.is_open = rest, self._in_head, True
            return Text(text if self.calls == 0 else "")
        if not self._waiting or self.calls:
            return None
        return self._all_but_a_beginning_of(BEGIN, Text)

    def _in_head(self) -> Piece | None:
        head, found, rest = self._waiting.partition(_ARGUMENTS)
        if not found:
            return None
        self._waiting, self._where = rest, self._in_arguments
        self.calls += 1
        self._said = ""
        return Begin(head.removeprefix(_NAME))

    def _in_arguments(self) -> Piece | None:
        arguments, found, rest = self._waiting.partition(END)
        if found:
            self._waiting, self._where, self.is_open = rest, self._in_text, False
            return Arguments(arguments)
        piece = self._all_but_a_beginning_of(END, Arguments)
        if piece is not None:
            self._said += piece.text
        return piece

    def _all_but_a_beginning_of(self, mark: str, kind: type[_Said]) -> _Said | None:
        longest = min(len(mark) - 1, len(self._waiting))
        keep = next((size for size in range(longest, 0, -1) if self._waiting.endswith(mark[:size])), 0)
        cut = len(self._waiting) - keep
        if not cut:
            return None
        text, self._waiting = self._waiting[:cut], self._waiting[cut:]
        return kind(text)


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True
