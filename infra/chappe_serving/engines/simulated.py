"""An engine that only takes the time that a real one would: for tests, capacity planning and benchmarks.

A token is a word with the blank before it. The text comes from a seed, so the same request always gets the same
answer. Faults are options too.
"""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
from msgspec import Struct

from chappe_kernel.errors import Invalid
from chappe_kernel.rating import NO_COUNTS, Counts
from chappe_kernel.wire.engine import (
    CountRequest,
    EmbedRequest,
    End,
    EngineHealth,
    Feature,
    FinishReason,
    GenerateRequest,
    Prompt,
    Start,
)
from chappe_serving.bounds import check_prompt, check_texts, completion_bound
from chappe_serving.engine import Delta, Embeddings, Event, Load, Prefill
from chappe_serving.engines.admission import Aborted, Admission, Attempt

_TEMPLATE_TOKENS = 4
"""Per message: what a chat template adds."""
_WORDS = ("the", "signal", "tower", "hill", "message", "arm", "clear", "sky", "relay", "night", "code", "wind", "next")
_LONGEST_ANSWER = 200


class SimulatedOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Rates are per slot. A fault happens once so many tokens of an answer were generated."""

    prefill_tokens_per_s: float = 2000.0
    decode_tokens_per_s: float = 100.0
    slots: int = 4
    context_tokens: int = 2048
    dimensions: int = 384
    seed: int = 0
    answer_tokens: int | None = None
    """How long every answer is; by default drawn from the seed."""
    fail_after_tokens: int | None = None
    die_after_tokens: int | None = None
    """The process ends, as if it were killed."""
    stall_after_tokens: int | None = None


class SimulatedEngine:
    """Implements `GeneratingEngine` and `EmbeddingEngine`. Time and death are arguments."""

    name = "simulated"
    features: frozenset[Feature] = frozenset()

    def __init__(
        self,
        options: SimulatedOptions,
        *,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
        die: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        self.context_tokens = options.context_tokens
        self._options = options
        self._admission = Admission(options.slots)
        self._sleep = sleep
        self._die = die

    async def start(self) -> None:
        """There is nothing to load."""

    async def health(self) -> EngineHealth:
        return EngineHealth(engine=self.name, context_tokens=self.context_tokens, running=self.load().running)

    async def count_prompt(self, request: CountRequest) -> int:
        if request.prompt is not None:
            return _count_bare(request.prompt)
        return _count_messages([message.content for message in request.messages]) + _count_inputs(request.inputs)

    def abort(self, request_id: str, attempt: int) -> bool:
        return self._admission.abort(request_id, attempt)

    def load(self) -> Load:
        return self._admission.load()

    async def drain(self) -> None:
        await self._admission.drain()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        with self._admission.attempt(request.request_id, request.attempt) as attempt:
            prompt_tokens = _count_prompt(request)
            bound = completion_bound(request, prompt_tokens, self.context_tokens)
            counts = NO_COUNTS
            try:
                async with self._admission.slot(attempt):
                    async for event in self._run(request, attempt, prompt_tokens, bound):
                        # A slow or hanging token is awaited inside: `counts` is what was there before it.
                        counts = event.counts if isinstance(event, Prefill | Delta) else counts
                        yield event
            except Aborted:
                yield End("aborted", counts)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        if not request.inputs or not all(request.inputs):
            raise Invalid("an input is empty", param="input")
        check_texts(request.inputs, "input")
        prompt_tokens = _count_inputs(request.inputs)
        check_prompt(prompt_tokens, request.max_prompt_tokens, prompt_tokens, "input")
        for text in request.inputs:
            check_prompt(_count_inputs((text,)), self.context_tokens, self.context_tokens, "input")
        dimensions = request.dimensions or self._options.dimensions
        if not 1 <= dimensions <= self._options.dimensions:
            raise Invalid(f"this model has {self._options.dimensions} dimensions", param="dimensions")
        await self._sleep(prompt_tokens / self._options.prefill_tokens_per_s)
        vectors = np.stack([_shortened(self._vector(text), dimensions) for text in request.inputs])
        return Embeddings(vectors=vectors, prompt_tokens=prompt_tokens)

    async def _run(
        self, request: GenerateRequest, attempt: Attempt, prompt_tokens: int, bound: int
    ) -> AsyncIterator[Event]:
        options = self._options
        yield Prefill(Counts(prompt_tokens, 0, 0))
        await attempt.race(self._sleep(prompt_tokens / options.prefill_tokens_per_s))
        yield Start(prompt_tokens, 0)
        draw = random.Random(f"{options.seed} {request.sampling.seed} {request.messages} {request.prompt}")  # noqa: S311  # no secret
        wanted = options.answer_tokens or draw.randint(1, _LONGEST_ANSWER)
        for done in range(min(wanted, bound)):
            if done == options.fail_after_tokens:
                yield End("failed", Counts(prompt_tokens, 0, done))
                return
            if done == options.die_after_tokens:
                self._die()
            if done == options.stall_after_tokens:
                await attempt.race(asyncio.Event().wait())
            await attempt.race(self._sleep(1 / options.decode_tokens_per_s))
            text = draw.choice(_WORDS)
            yield Delta(f" {text}" if done else text, Counts(prompt_tokens, 0, done + 1))
        finish: FinishReason = "stop" if wanted <= bound else "length"
        yield End("completed", Counts(prompt_tokens, 0, min(wanted, bound)), finish)

    def _vector(self, text: str) -> "np.typing.NDArray[np.float32]":
        digest = hashlib.sha256(f"{self._options.seed} {text}".encode()).digest()
        draw = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
        vector = draw.standard_normal(self._options.dimensions).astype(np.float32)
        return vector / np.float32(np.linalg.norm(vector))


def _shortened(vector: "np.typing.NDArray[np.float32]", dimensions: int) -> "np.typing.NDArray[np.float32]":
    """Of unit length again, as models do it that were trained for shorter vectors."""
    first = vector[:dimensions]
    return first / np.float32(np.linalg.norm(first))


def _count_prompt(request: GenerateRequest) -> int:
    if request.prompt is not None:
        if isinstance(request.prompt, str):
            check_texts((request.prompt,), "prompt")
        if not request.prompt:
            raise Invalid("the prompt is empty", param="prompt")
        return _count_bare(request.prompt)
    if not request.messages:
        raise Invalid("there is no message", param="messages")
    texts = [message.content for message in request.messages]
    check_texts(texts, "messages")
    return _count_messages(texts)


def _count_bare(prompt: Prompt) -> int:
    return _count_inputs((prompt,)) if isinstance(prompt, str) else len(prompt)


def _count_messages(texts: list[str]) -> int:
    return sum(_TEMPLATE_TOKENS + len(text.split()) for text in texts)


def _count_inputs(texts: tuple[str, ...]) -> int:
    return sum(max(1, len(text.split())) for text in texts)
