"""llama.cpp's own server: how it is configured, and the messages of its HTTP interface that we use."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import xllamacpp  # type: ignore[import-untyped]  # it has no types
from msgspec import Struct

from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import Sampling
from chappe_serving.engine import TokenLogprob

_BATCH_TOKENS = 32
"""llama.cpp hears of an abort between two batches: at 80 prompt tokens a second that is every 0.4 s."""
_SEEDS = 2**32 - 1
"""llama.cpp's seeds have 32 bits, and the highest one means "draw one"."""
_LEAST_LOGPROB = -9999.0
"""OpenAI's, for whatever could not come."""
_NEVER = -100.0
_SILENT = 0
"""Higher verbosities log requests' details on standard error."""


class LlamaCppOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment's options. Give `package` (an installed package with one GGUF file inside) or `model_path`."""

    package: str | None = None
    model_path: str | None = None
    slots: int = 4
    context_tokens: int = 2048
    """Per slot."""
    threads: int | None = None
    """For decoding; by default half of the processors, so that the machine stays usable."""
    prefill_threads: int | None = None
    """By default all processors."""
    system_prompt: str | None = "You are a helpful AI assistant."
    """Said first when the client sends no system message; `None` leaves that to the model's template. Small models
    depend on it: with its template's own line SmolLM2-135M answers in broken French where France is asked about."""
    temperature: float | None = None
    """When the client says none: what the model's makers recommend. `None` leaves it to llama.cpp, as `top_p`."""
    top_p: float | None = None
    chat_template: str | None = None
    """A template of `templates/` instead of the model file's own, by its name."""
    tool_calls: Literal["hermes"] | None = None
    """How the model writes that it calls a function (`tool_calls.py`); None: it has no tools. Its chat template must
    know tools."""


class Progress(Struct, frozen=True):
    total: int
    processed: int


class Timings(Struct, frozen=True):
    cache_n: int = 0
    predicted_n: int = 0


class Probability(Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: "tuple[Probability, ...]" = ()

    def told(self, likeliest: int) -> TokenLogprob:
        beside = tuple([one.told(0) for one in self.top_logprobs[:likeliest]])
        return TokenLogprob(self.token, max(self.logprob, _LEAST_LOGPROB), self.bytes, beside)


class Chunk(Struct, frozen=True):
    """One event of a `/completion` stream."""

    content: str = ""
    stop: bool = False
    stop_type: Literal["none", "eos", "limit", "word"] = "none"
    stopping_word: str = ""
    timings: Timings = Timings()
    completion_probabilities: tuple[Probability, ...] = ()
    prompt_progress: Progress | None = None


class Slot(Struct, frozen=True):
    """What `/slots` says. After a slot's release `n_prompt_tokens` is what its KV cache holds."""

    id: int
    is_processing: bool
    n_prompt_tokens: int = 0


class Templated(Struct, frozen=True):
    prompt: str


class Tokenized(Struct, frozen=True):
    tokens: list[int]


class TemplateAbilities(Struct, frozen=True):
    supports_tools: bool = False
    supports_tool_calls: bool = False


class Properties(Struct, frozen=True):
    """What `/props` says."""

    chat_template_caps: TemplateAbilities = TemplateAbilities()


class ModelMeta(Struct, frozen=True):
    n_vocab: int


class ModelCard(Struct, frozen=True):
    meta: ModelMeta


class ModelCards(Struct, frozen=True):
    """What `/v1/models` says."""

    data: tuple[ModelCard]


def find_model(options: LlamaCppOptions) -> Path:
    """The GGUF file. A package is found, never imported. Raises `Invalid`."""
    if options.model_path is not None:
        return Path(options.model_path)
    spec = find_spec(options.package) if options.package else None
    if spec is None or spec.origin is None:
        raise Invalid(f"the model package {options.package} is not installed", param="package")
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise Invalid(f"the package {options.package} holds {len(files)} GGUF files, not one", param="package")
    return files[0]


def find_template(name: str) -> str:
    """The text of a template of ours. Raises `Invalid`."""
    found = Path(__file__).parent / "templates" / f"{name}.jinja"
    if not name.replace("-", "").isalnum() or not found.is_file():
        raise Invalid("there is no chat template of this name", param="chat_template")
    return found.read_text()


def server_params(options: LlamaCppOptions, model: Path, socket_path: Path, key: str) -> xllamacpp.CommonParams:
    processors = os.cpu_count() or 1
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.hostnames = [str(socket_path)]
    params.api_keys = [key]
    params.verbosity = _SILENT
    if options.chat_template is not None:
        params.chat_template = find_template(options.chat_template)
    params.ui = False
    params.endpoint_slots = True
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context_tokens
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.cpuparams.n_threads = options.threads or max(1, processors // 2)
    params.cpuparams_batch.n_threads = options.prefill_threads or processors
    # Prompts stay in their slot: no second cache of them in the host's memory, none found by similarity.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.slot_prompt_similarity = 0.0
    params.fit_params = False
    params.warmup = False
    return params


def sampling_fields(sampling: Sampling, options: LlamaCppOptions, choice: int = 0) -> dict[str, Any]:
    """OpenAI's names in llama.cpp's; what the client left open is the deployment's, else llama.cpp's default. Each of
    several choices is drawn by a seed of its own."""
    fields = {
        "temperature": options.temperature if sampling.temperature is None else sampling.temperature,
        "top_p": options.top_p if sampling.top_p is None else sampling.top_p,
        "top_k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": None if sampling.seed is None else (sampling.seed + choice) % _SEEDS,
        "stop": list(sampling.stop) or None,
        "logit_bias": [[token, _bias(bias)] for token, bias in sampling.logit_bias] or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _bias(bias: float) -> float | bool:
    """llama.cpp's false is never; OpenAI's is -100."""
    return False if bias <= _NEVER else bias
