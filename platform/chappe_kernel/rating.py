"""What a request costs. Pure and exact; gateway, control plane and simulator share it.

Prices are whole nanos per unit (1 nano per token is 0.001 EUR per million tokens), so that an event's amount
is a sum of integer products and never needs rounding.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import astuple

from chappe_kernel.errors import Invalid
from chappe_kernel.money import Nano

WHOLE_BASIS_POINTS = 10_000


class Price(Struct, frozen=True):
    """One price version's components, in nanos per unit. None is negative.

    Fields are only ever added at the end: a slip carries them as a tuple, and old slips stay readable.
    """

    input_nano_per_token: int
    cached_input_nano_per_token: int
    output_nano_per_token: int
    request_nano: int = 0
    second_nano: int = 0
    """Per second of sound or video."""
    image_nano: int = 0

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0:
            raise Invalid("a price component is negative", code="invalid_price")


class Counts(Struct, frozen=True):
    """What the engine worked: `cached_tokens` are the part of `prompt_tokens` that it did not compute again.

    `seconds` are whole ones, of sound or video that was taken in or made; `images` were made.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seconds: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        if (
            not 0 <= self.cached_tokens <= self.prompt_tokens
            or min(self.completion_tokens, self.seconds, self.images) < 0
        ):
            raise Invalid("impossible counts", code="invalid_counts")

    @property
    def is_anything_delivered(self) -> bool:
        """Beyond the prompt."""
        return bool(self.completion_tokens or self.seconds or self.images)


NO_COUNTS = Counts(0, 0, 0)


class Outcome(StrEnum):
    """How a request ended, as its usage event says it."""

    COMPLETED = "completed"
    DISCONNECTED = "disconnected"
    FAILED = "failed"


class Total(Struct, frozen=True):
    """The counts of several chargeable requests, added up: what rates as they do, since rating is linear in them."""

    requests: int
    counts: Counts


def rate_total(price: Price, total: Total) -> Nano:
    """The exact price of all of them together: the sum of what each would cost."""
    counts = total.counts
    fresh_tokens = counts.prompt_tokens - counts.cached_tokens
    return Nano(
        fresh_tokens * price.input_nano_per_token
        + counts.cached_tokens * price.cached_input_nano_per_token
        + counts.completion_tokens * price.output_nano_per_token
        + total.requests * price.request_nano
        + counts.seconds * price.second_nano
        + counts.images * price.image_nano
    )


def rate(price: Price, counts: Counts) -> Nano:
    """The exact price of one request that used `counts`."""
    return rate_total(price, Total(1, counts))


def is_chargeable(outcome: Outcome, counts: Counts) -> bool:
    """Whether a request costs anything at all: not if it never reached the engine's prefill (all counts zero), nor
    if it failed before anything was delivered."""
    return counts != NO_COUNTS and (outcome is not Outcome.FAILED or counts.is_anything_delivered)


def charge(price: Price, outcome: Outcome, counts: Counts) -> Nano:
    """What the tenant pays for one usage event.

    The caller puts into `counts` what the outcome makes chargeable: for `failed` the smaller of delivered and
    generated, which is nothing when the failure came before the first token.
    """
    return rate(price, counts) if is_chargeable(outcome, counts) else Nano(0)


def discounted(price: Price, basis_points: int) -> Price:
    """Each component less a discount, rounded half up to the nano: once, when it is published. Raises `Invalid`."""
    if not 0 <= basis_points <= WHOLE_BASIS_POINTS:
        raise Invalid("a discount is between 0 and 10,000 basis points", code="invalid_discount")
    rest = WHOLE_BASIS_POINTS - basis_points
    half = WHOLE_BASIS_POINTS // 2
    return Price(*((component * rest + half) // WHOLE_BASIS_POINTS for component in astuple(price)))


class Component(StrEnum):
    """What a line of a `breakdown` is about."""

    INPUT = "input"
    CACHED_INPUT = "cached_input"
    OUTPUT = "output"
    REQUEST = "request"
    SECONDS = "seconds"
    IMAGES = "images"
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
    """How `charge` comes about: the lines of `rate`, then what is waived. They sum to the charge exactly. Seconds and
    images have a line only where there are any."""
    units = (
        ChargeLine(Component.SECONDS, counts.seconds, price.second_nano),
        ChargeLine(Component.IMAGES, counts.images, price.image_nano),
    )
    lines = (
        ChargeLine(Component.INPUT, counts.prompt_tokens - counts.cached_tokens, price.input_nano_per_token),
        ChargeLine(Component.CACHED_INPUT, counts.cached_tokens, price.cached_input_nano_per_token),
        ChargeLine(Component.OUTPUT, counts.completion_tokens, price.output_nano_per_token),
        ChargeLine(Component.REQUEST, 1, price.request_nano),
        *(line for line in units if line.quantity),
    )
    waived_nano = sum(line.amount_nano for line in lines) - charge(price, outcome, counts)
    return (*lines, ChargeLine(Component.WAIVED, 1, -waived_nano)) if waived_nano else lines


def upper_bound(
    price: Price, max_prompt_tokens: int, max_completion_tokens: int, *, max_seconds: int = 0, max_images: int = 0
) -> Nano:
    """The hold: no charge within these bounds can exceed it, however much of the prompt was cached."""
    input_nano = max(price.input_nano_per_token, price.cached_input_nano_per_token)
    return Nano(
        max_prompt_tokens * input_nano
        + max_completion_tokens * price.output_nano_per_token
        + price.request_nano
        + max_seconds * price.second_nano
        + max_images * price.image_nano
    )
