"""What an engine refuses before it works: text that no tokenizer may see, and prompts over their bounds."""

from collections.abc import Iterable

from chappe_kernel.errors import Invalid
from chappe_kernel.wire.engine import GenerateRequest

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
_FIRST_SURROGATE = "\ud800"
_LAST_SURROGATE = "\udfff"


def check_texts(texts: Iterable[str], param: str) -> None:
    """Raises `Invalid`: a NUL ends the text for engines written in C, a lone surrogate has no UTF-8."""
    for text in texts:
        if "\0" in text:
            raise Invalid("the text contains a NUL character", param=param)
        if any(_FIRST_SURROGATE <= character <= _LAST_SURROGATE for character in text):
            raise Invalid("the text contains a lone surrogate", param=param)


def check_prompt(prompt_tokens: int, max_prompt_tokens: int, context_tokens: int, param: str) -> None:
    """Raises `Invalid` with code `context_length_exceeded`."""
    bound = min(max_prompt_tokens, context_tokens)
    if prompt_tokens > bound:
        raise Invalid(
            f"the prompt has {prompt_tokens} tokens, more than the {bound} that are allowed",
            code=CONTEXT_LENGTH_EXCEEDED,
            param=param,
        )


def completion_bound(request: GenerateRequest, prompt_tokens: int, context_tokens: int) -> int:
    """How many tokens may be generated: the request's maximum, clipped to the context unless the client chose it.

    Raises `Invalid` with code `context_length_exceeded`.
    """
    check_prompt(prompt_tokens, request.max_prompt_tokens, context_tokens - 1, request.prompt_param)
    wanted, room = request.max_completion_tokens, context_tokens - prompt_tokens
    if wanted < 1:
        raise Invalid("at least one token must be asked for", param="max_completion_tokens")
    if request.max_tokens_given and wanted > room:
        raise Invalid(
            f"this model's context is {context_tokens} tokens: the prompt has {prompt_tokens}, "
            f"and {wanted} were asked for",
            code=CONTEXT_LENGTH_EXCEEDED,
            param="max_completion_tokens",
        )
    return min(wanted, room)
