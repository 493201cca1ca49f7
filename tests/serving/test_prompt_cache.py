"""A cached prefix is found again by the tenant who sent it, and by nobody else."""

from chappe_serving.engine import GeneratingEngine
from chappe_serving.engines.registry import AnyEngine
from tests.serving.conftest import chat
from tests.serving.test_engine_contract import collect, end_of

PREFIX = "The quick brown fox jumps over the lazy dog. " * 5


async def test_prefix_is_cached_for_its_own_scope_alone(llama: AnyEngine) -> None:
    assert isinstance(llama, GeneratingEngine)
    generating: GeneratingEngine = llama

    async def cached(scope: str) -> tuple[int, int]:
        counts = end_of(await collect(generating, chat(PREFIX, max_tokens=2, cache_scope=scope))).counts
        return counts.cached_tokens, counts.prompt_tokens

    slots = generating.load().slots
    assert (await cached("alice"))[0] == 0
    again, prompt = await cached("alice")
    assert prompt // 2 < again < prompt
    # Strangers, as many as there are slots: each gets a slot that somebody else filled with the very same prompt.
    for number in range(slots):
        assert (await cached(f"stranger-{number}"))[0] == 0
    assert (await cached("alice"))[0] == 0
    assert (await cached(""))[0] == 0
