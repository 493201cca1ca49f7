"""Which engine a deployment names, and its options."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import msgspec

from chappe_kernel.errors import Invalid
from chappe_serving.engine import EmbeddingEngine, GeneratingEngine

AnyEngine = GeneratingEngine | EmbeddingEngine


class _Entry(NamedTuple):
    module: str
    options: str
    engine: str


# Imported by name when they are asked for: each needs packages that the others' machines lack.
_ENGINES = {
    "llama.cpp": _Entry("chappe_serving.engines.llama_cpp", "LlamaCppOptions", "LlamaCppEngine"),
    "e5": _Entry("chappe_serving.engines.e5", "E5Options", "E5Engine"),
    "simulated": _Entry("chappe_serving.engines.simulated", "SimulatedOptions", "SimulatedEngine"),
}


def build_engine(name: str, options: Mapping[str, Any]) -> AnyEngine:
    """An engine that was not started yet. Raises `Invalid` for an unknown engine, a wrong option, a missing package."""
    entry = _ENGINES.get(name)
    if entry is None:
        raise Invalid(f"the engine {name} is not available here", param="engine")
    try:
        module = import_module(entry.module)
    except ModuleNotFoundError as error:
        raise Invalid(f"the engine {name} needs the package {error.name}", param="engine") from error
    try:
        parsed = msgspec.convert(dict(options), getattr(module, entry.options))
    except msgspec.ValidationError as error:
        raise Invalid(f"the options of {name} are wrong: {error}", param="options") from None
    engine: AnyEngine = getattr(module, entry.engine)(parsed)
    return engine
