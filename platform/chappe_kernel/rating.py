"""What a request costs. Pure and exact; gateway, control plane and simulator share it.

Prices are whole nanos per unit (1 nano per token is 0.001 EUR per million tokens), so that an event's amount
is a sum of integer products and never needs rounding.
"""

from enum import StrEnum

from msgspec import Struct

from chappe_kernel.errors import Invalid
from chappe_kernel.money import Nano


class Price(Struct, frozen=True):
    """One price version's components, in nanos per unit. None is negative."""

    input_nano_per_token: int
    cached_input_nano_per_token: int
    output_nano_per_token: int
    request_nano: int = 0

    def __post_init__(self) -> None:
        parts = (
            self.input_nano_per_token,
            self.cached_input_nano_per_token,
            self.output_nano_per_token,
            self.request_nano,
        )
        if min(parts) < 0:
            raise Invalid("a price component is negative", code="invalid_price")


class Counts(Struct, frozen=True):
    """What the engine worked: `cached_tokens` are the part of `prompt_tokens` that it did not compute again."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    def __post_init__(self) -> None:
        if not 0 <= self.cached_tokens <= self.prompt_tokens or self.completion_tokens < 0:
            raise Invalid("impossible token counts", code="invalid_counts")


NO_COUNTS = Counts(0, 0, 0)


class Outcome(StrEnum):
    """How a request ended, as its usage event says it."""

    COMPLETED = "completed"
    DISCONNECTED = "disconnected"
    FAILED = "failed"


def rate(price: Price, counts: Counts) -> Nano:
    """The exact price of one request that used `counts`."""
    fresh_tokens = counts.prompt_tokens - counts.cached_tokens
    return Nano(
        fresh_tokens * price.input_nano_per_token
        + counts.cached_tokens * price.cached_input_nano_per_token
        + counts.completion_tokens * price.output_nano_per_token
        + price.request_nano
    )


def charge(price: Price, outcome: Outcome, counts: Counts) -> Nano:
    """What the tenant pays for one usage event.

    A request that never reached the engine's prefill (all counts zero) is free, whatever its outcome. The caller
    puts into `counts` what the outcome makes chargeable: for `failed` the smaller of delivered and generated, which
    is nothing when the failure came before the first token.
    """
    if counts == NO_COUNTS or (outcome is Outcome.FAILED and counts.completion_tokens == 0):
        return Nano(0)
    return rate(price, counts)


class Component(StrEnum):
    """What a line of a `breakdown` is about."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    OUTPUT = "output"
    REQUEST = "request"
    WAIVED = "waived"
    """What the outcome makes free: never positive, and there only if it is not zero."""


class ChargeLine(Struct, frozen=True):
    """`amount_nano` is `quantity` times `unit_nano`."""

    component: Component
    quantity: int
    unit_nano: int

    @property
    def amount_nano(self) -> int:
        return self.quantity * self.unit_nano


def breakdown(price: Price, outcome: Outcome, counts: Counts) -> tuple[ChargeLine, ...]:
    """How `charge` comes about: the four lines of `rate`, then what is waived. They sum to the charge exactly."""
    lines = (
        ChargeLine(Component.INPUT, counts.prompt_tokens - counts.cached_tokens, price.input_nano_per_token),
        ChargeLine(Component.CACHED_INPUT, counts.cached_tokens, price.cached_input_nano_per_token),
        ChargeLine(Component.OUTPUT, counts.completion_tokens, price.output_nano_per_token),
        ChargeLine(Component.REQUEST, 1, price.request_nano),
    )
    waived_nano = sum(line.amount_nano for line in lines) - charge(price, outcome, counts)
    return (*lines, ChargeLine(Component.WAIVED, 1, -waived_nano)) if waived_nano else lines


def upper_bound(price: Price, max_prompt_tokens: int, max_completion_tokens: int) -> Nano:
    """The hold: no charge within these two bounds can exceed it, however much of the prompt was cached."""
    input_nano = max(price.input_nano_per_token, price.cached_input_nano_per_token)
    return Nano(
        max_prompt_tokens * input_nano + max_completion_tokens * price.output_nano_per_token + price.request_nano
    )
