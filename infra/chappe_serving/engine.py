"""What every inference engine promises. No framework here: the same contract tests run over all of them without Ray.

A generation is a sequence of events: `[Prefill] [Start (Delta | CallBegun | ArgumentsDelta | Next)*] End`, so exactly
one terminal event, and counts that never fall; `Next` stands between two answers to one prompt. It is stopped by
`abort`, never by cancelling whoever reads it: only then can the last event say what was really generated. A refusal is
an exception before the first event, and has cost nothing.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import (
    CountRequest,
    EmbedRequest,
    End,
    EngineHealth,
    Feature,
    FinishReason,
    GenerateRequest,
    Start,
)


@dataclass(frozen=True, slots=True)
class Prefill:
    """The engine began to work on the prompt: from here on it counts."""

    counts: Counts


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its natural log probability; `likeliest` are what might have stood in its place, likeliest first."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    likeliest: "tuple[TokenLogprob, ...]" = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """More text, and the counts so far. Some deltas are several tokens: bytes wait to be whole characters."""

    text: str
    counts: Counts
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class CallBegun:
    """The model calls a function; `id` names this call."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsDelta:
    """More of the JSON text that is the arguments of the call that was begun last."""

    text: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Next:
    """One of several answers is done; what follows belongs to the next."""

    finish_reason: FinishReason


Event: TypeAlias = Prefill | Start | Delta | CallBegun | ArgumentsDelta | Next | End


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is. `waiting` are attempts that hold no slot yet."""

    running: int
    waiting: int
    slots: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One float32 vector of unit length per input, in order."""

    vectors: NDArray[np.float32]
    prompt_tokens: int


class Engine(Protocol):
    """The part that all engines share. `start` comes first, `drain` last; all run in one event loop."""

    name: str
    context_tokens: int
    features: frozenset[Feature]
    """What it can beyond plain text; known once it has started."""

    async def start(self) -> None:
        """Load the model. Raises `Invalid` when it is not installed."""
        ...

    async def health(self) -> EngineHealth:
        """Raises `Unavailable` when the engine cannot serve."""
        ...

    async def count_prompt(self, request: CountRequest) -> int:
        """Exactly what `generate` or `embed` would count for this prompt. Raises `Invalid`."""
        ...

    def abort(self, request_id: str, attempt: int) -> bool:
        """Stop it within a second; its stream still ends with its terminal event. False when it does not run here."""
        ...

    def load(self) -> Load: ...

    async def drain(self) -> None:
        """Refuse new work (`Unavailable`), wait for what runs, and free everything."""
        ...


@runtime_checkable
class GeneratingEngine(Engine, Protocol):
    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """Raises before the first event: `Invalid` (`context_length_exceeded`, `invalid_request`), `Unavailable`."""
        ...


@runtime_checkable
class EmbeddingEngine(Engine, Protocol):
    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Raises `Invalid` (`context_length_exceeded`, `invalid_request`), `Unavailable`."""
        ...
