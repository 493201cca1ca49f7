"""What every engine promises, the same tests for all of them and with the real models."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from chappe_kernel.errors import Invalid
from chappe_kernel.rating import NO_COUNTS, Counts
from chappe_kernel.wire.engine import CountRequest, End, GenerateRequest, Message, Prompt, Sampling, Start
from chappe_serving.engine import Delta, EmbeddingEngine, Event, GeneratingEngine, Prefill
from chappe_serving.engines.registry import AnyEngine
from tests.serving.conftest import chat, embedding


async def collect(engine: GeneratingEngine, request: GenerateRequest) -> list[Event]:
    return [event async for event in engine.generate(request)]


async def collect_and_abort(
    engine: GeneratingEngine, request: GenerateRequest, when: Callable[[Event], bool]
) -> tuple[list[Event], float]:
    """All events, with an abort at the first that `when` names, and the seconds from there to the last."""
    events, aborted_at = list[Event](), 0.0
    async for event in engine.generate(request):
        events.append(event)
        if not aborted_at and when(event):
            aborted_at = time.monotonic()
            assert engine.abort(request.request_id, request.attempt)
    return events, time.monotonic() - aborted_at


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def end_of(events: list[Event]) -> End:
    """The terminal event: exactly one, and the last."""
    ends = [event for event in events if isinstance(event, End)]
    assert ends == events[-1:]
    return ends[0]


async def test_health_names_the_engine_and_its_context(engine: AnyEngine) -> None:
    health = await engine.health()
    assert (health.engine, health.context_tokens) == (engine.name, engine.context_tokens)


async def test_events_come_in_order_and_counts_never_fall(generating: GeneratingEngine) -> None:
    events = await collect(generating, chat("Count from one to five."))
    assert [type(event) for event in events[:2]] == [Prefill, Start]
    assert all(isinstance(event, Delta) for event in events[2:-1])
    done = [event.counts.completion_tokens for event in events if isinstance(event, Delta)]
    assert all(before < after for before, after in pairwise(done))
    end = end_of(events)
    assert end.outcome == "completed"
    assert end.finish_reason in {"stop", "length"}
    assert end.counts.completion_tokens >= done[-1]


async def test_prompt_count_is_what_generate_counts(generating: GeneratingEngine) -> None:
    request = chat("Where does the sun rise? Où se lève le soleil ?", max_tokens=2)
    counted = await generating.count_prompt(CountRequest(messages=request.messages))
    events = await collect(generating, request)
    assert isinstance(events[1], Start)
    assert counted == events[1].prompt_tokens == end_of(events).counts.prompt_tokens


@pytest.mark.parametrize("prompt", ["Once upon a time", (5, 17, 40)])
async def test_a_bare_prompt_is_counted_as_it_is_run(generating: GeneratingEngine, prompt: Prompt) -> None:
    counted = await generating.count_prompt(CountRequest(prompt=prompt))
    events = await collect(generating, chat("", messages=(), prompt=prompt, max_tokens=3))
    assert isinstance(events[1], Start)
    assert counted == events[1].prompt_tokens == end_of(events).counts.prompt_tokens
    assert counted < await generating.count_prompt(CountRequest(messages=chat("Once upon a time").messages))
    assert end_of(events).counts.completion_tokens == 3
    with pytest.raises(Invalid) as refused:
        await collect(generating, chat("", messages=(), prompt=prompt, max_prompt_tokens=counted - 1))
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("prompt", ["", (), "a\0b"])
async def test_an_empty_or_broken_prompt_is_refused(generating: GeneratingEngine, prompt: Prompt) -> None:
    with pytest.raises(Invalid) as refused:
        await collect(generating, chat("", messages=(), prompt=prompt))
    assert refused.value.param == "prompt"


async def test_length_is_the_reason_at_the_maximum(generating: GeneratingEngine) -> None:
    end = end_of(await collect(generating, chat("Tell a long story about the sea.", max_tokens=3)))
    assert (end.counts.completion_tokens, end.finish_reason) == (3, "length")


async def test_a_prompt_over_its_bound_is_refused_before_any_event(generating: GeneratingEngine) -> None:
    counted = await generating.count_prompt(CountRequest(messages=chat("hello there").messages))
    with pytest.raises(Invalid) as refused:
        await collect(generating, chat("hello there", max_prompt_tokens=counted - 1))
    assert refused.value.code == "context_length_exceeded"
    await collect(generating, chat("hello there", max_prompt_tokens=counted, max_tokens=1))


async def test_a_prompt_longer_than_the_context_is_refused(generating: GeneratingEngine) -> None:
    with pytest.raises(Invalid) as refused:
        await collect(generating, chat("word " * 2000, max_prompt_tokens=100_000))
    assert refused.value.code == "context_length_exceeded"


async def test_a_chosen_maximum_must_fit_and_a_default_is_clipped(generating: GeneratingEngine) -> None:
    context = generating.context_tokens
    with pytest.raises(Invalid) as refused:
        await collect(generating, chat("hello", max_tokens=context, max_tokens_given=True))
    assert refused.value.code == "context_length_exceeded"
    # The prompt leaves a handful of tokens; without a chosen maximum the answer ends there.
    request = chat("word " * (context - 60), max_tokens=context)
    end = end_of(await collect(generating, request))
    assert end.counts.prompt_tokens + end.counts.completion_tokens <= context


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\udfff"])
async def test_nul_and_lone_surrogates_are_refused(engine: AnyEngine, text: str) -> None:
    with pytest.raises(Invalid) as refused:
        if isinstance(engine, GeneratingEngine):
            await collect(engine, chat(text))
        if isinstance(engine, EmbeddingEngine):
            await engine.embed(embedding("fine", text))
    assert refused.value.code == "invalid_request"


async def test_abort_while_decoding_ends_within_a_second_with_all_that_was_made(generating: GeneratingEngine) -> None:
    request = chat("Tell a very long story about the sea.", max_tokens=800)
    events, seconds = await collect_and_abort(
        generating, request, lambda event: isinstance(event, Delta) and event.counts.completion_tokens >= 5
    )
    end = end_of(events)
    seen = [event.counts.completion_tokens for event in events if isinstance(event, Delta)][-1]
    assert seconds < 1.0
    assert (end.outcome, end.finish_reason) == ("aborted", None)
    assert seen <= end.counts.completion_tokens < 100


async def test_abort_during_prefill_counts_the_prompt_and_no_answer(generating: GeneratingEngine) -> None:
    events, seconds = await collect_and_abort(generating, chat("word " * 900), lambda event: isinstance(event, Prefill))
    end = end_of(events)
    assert seconds < 1.0
    assert end.outcome == "aborted"
    assert end.counts == Counts(end.counts.prompt_tokens, 0, 0)
    assert end.counts.prompt_tokens > 900


async def test_an_attempt_aborted_in_the_queue_counts_nothing(generating: GeneratingEngine) -> None:
    long = [chat("Tell a very long story about the sea.", max_tokens=400) for _ in range(generating.load().slots)]
    running = [asyncio.create_task(collect(generating, request)) for request in long]
    while generating.load().running < len(long):  # noqa: ASYNC110  # the engine tells nobody
        await asyncio.sleep(0.01)
    waiting = chat("hello")
    queued = asyncio.create_task(collect(generating, waiting))
    while not generating.load().waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert generating.abort(waiting.request_id, waiting.attempt)
    assert await queued == [End("aborted", NO_COUNTS)]
    for request in long:
        generating.abort(request.request_id, request.attempt)
    assert {end_of(events).outcome for events in await asyncio.gather(*running)} == {"aborted"}
    assert generating.load().running == 0


async def test_twelve_at_once_on_four_slots_all_finish(generating: GeneratingEngine) -> None:
    alone = text_of(await collect(generating, chat("What is 2+2?")))
    together = await asyncio.gather(*(collect(generating, chat("What is 2+2?")) for _ in range(12)))
    assert {end_of(events).outcome for events in together} == {"completed"}
    assert alone
    assert {end_of(events).counts.prompt_tokens for events in together} == {end_of(together[0]).counts.prompt_tokens}


async def test_a_slot_carries_nothing_from_one_prompt_to_the_next(generating: GeneratingEngine) -> None:
    prompt = "The quick brown fox jumps over the lazy dog. " * 5
    for _ in range(generating.load().slots + 1):
        end = end_of(await collect(generating, chat(prompt, max_tokens=2)))
        assert end.counts.cached_tokens == 0


async def test_the_same_attempt_cannot_run_twice_at_once(generating: GeneratingEngine) -> None:
    request = chat("Tell a story.", max_tokens=100)
    stream = generating.generate(request)
    await anext(stream)
    with pytest.raises(Invalid):
        await collect(generating, request)
    generating.abort(request.request_id, request.attempt)
    assert end_of([event async for event in stream]).outcome == "aborted"


async def test_aborting_what_does_not_run_is_harmless(engine: AnyEngine) -> None:
    assert not engine.abort("nobody", 1)


async def test_equal_seeds_write_equal_answers(generating: GeneratingEngine) -> None:
    sampling = Sampling(temperature=1.0, seed=-7)
    first, second = [
        text_of(await collect(generating, chat("Tell a story.", sampling=sampling, max_tokens=12))) for _ in range(2)
    ]
    assert first == second != ""


async def test_the_chat_model_knows_the_capital_of_france(llama: GeneratingEngine) -> None:
    events = await collect(llama, chat("What is the capital of France?"))
    assert "Paris" in text_of(events)
    assert end_of(events).finish_reason == "stop"


async def test_a_stop_string_ends_the_answer_and_is_not_in_it(llama: GeneratingEngine) -> None:
    request = chat("What is the capital of France?", sampling=Sampling(temperature=0.0, stop=("Berlin", "France")))
    events = await collect(llama, request)
    assert text_of(events).strip() == "The capital of"
    assert end_of(events).finish_reason == "stop"
    assert end_of(events).stopped_by == 1


async def test_tokens_that_the_model_lacks_are_refused(llama: GeneratingEngine) -> None:
    with pytest.raises(Invalid) as refused:
        await collect(llama, chat("", messages=(), prompt=(5, 10**6)))
    assert refused.value.param == "prompt"


async def test_one_candidate_is_greedy(llama: GeneratingEngine) -> None:
    sampling = Sampling(temperature=2.0, top_k=1, seed=3)
    hot = await collect(llama, chat("What is the capital of France?", sampling=sampling, max_tokens=8))
    assert text_of(hot) == text_of(await collect(llama, chat("What is the capital of France?", max_tokens=8)))


async def test_roles_reach_the_model_and_developer_means_system(llama: GeneratingEngine) -> None:
    counts = [
        await llama.count_prompt(CountRequest(messages=(Message(role, "Be brief."), Message("user", "hello"))))
        for role in ("system", "developer")
    ]
    assert counts[0] == counts[1]


async def test_completion_count_is_the_tokenizers(llama: GeneratingEngine) -> None:
    """The answer's own tokens and the end-of-turn token, which the engine generated too."""
    events = await collect(llama, chat("What is the capital of France?"))
    tokens = await llama._ask("/tokenize", {"content": text_of(events)}, _Tokens)  # type: ignore[attr-defined]
    assert end_of(events).counts.completion_tokens == len(tokens.tokens) + 1


class _Tokens(msgspec.Struct):
    tokens: list[int]


async def test_embeddings_keep_order_and_unit_length_and_count_exactly(embedder: EmbeddingEngine) -> None:
    texts = ("hello", "bonjour à tous", "hello")
    made = await embedder.embed(embedding(*texts))
    assert made.vectors.shape == (3, 384)
    assert made.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-3)
    assert np.allclose(made.vectors[0], made.vectors[2], atol=1e-5)
    assert made.prompt_tokens == await embedder.count_prompt(CountRequest(inputs=texts))
    one_by_one = [await embedder.count_prompt(CountRequest(inputs=(text,))) for text in texts]
    assert made.prompt_tokens == sum(one_by_one)


async def test_an_input_over_the_context_is_refused_never_cut(embedder: EmbeddingEngine) -> None:
    with pytest.raises(Invalid) as refused:
        await embedder.embed(embedding("short", "a " * 2000))
    assert refused.value.code == "context_length_exceeded"


async def test_dimensions_that_the_model_lacks_are_refused(embedder: EmbeddingEngine) -> None:
    assert (await embedder.embed(embedding("a", dimensions=384))).vectors.shape == (1, 384)
    with pytest.raises(Invalid) as refused:
        await embedder.embed(embedding("a", dimensions=385))
    assert refused.value.param == "dimensions"


async def test_the_bound_is_on_all_inputs_together(embedder: EmbeddingEngine) -> None:
    counted = await embedder.count_prompt(CountRequest(inputs=("one two", "three")))
    await embedder.embed(embedding("one two", "three", max_prompt_tokens=counted))
    with pytest.raises(Invalid) as refused:
        await embedder.embed(embedding("one two", "three", max_prompt_tokens=counted - 1))
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize("inputs", [(), ("",), ("fine", "")])
async def test_empty_input_is_refused(embedder: EmbeddingEngine, inputs: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        await embedder.embed(embedding(*inputs))


async def test_meaning_holds_across_languages(e5: EmbeddingEngine) -> None:
    texts = ("hello", "bonjour", "The annual corporate tax filing is due on 15 April.")
    hello, bonjour, tax = (await e5.embed(embedding(*texts))).vectors
    assert hello @ bonjour > bonjour @ tax + 0.05
