"""What a process and the region's dispatcher tell each other about one deployment.

Each side's messages arrive in order or not at all. Who finds that one is missing asks for everything (`whole`), and
what is then not named is not there; so whatever is lost, forgotten or told twice is made good.
"""

from msgspec import Struct

from chappe_kernel.fairness.line import Priority


class Request(Struct, frozen=True, array_like=True):
    """One request, as its process tells of it. `id` is the process's own number for it."""

    id: int
    account: str
    bound: int
    weight: int
    priority: Priority
    waited_s: float
    patience_s: float
    """How much longer it waits."""
    runs: bool = False


class ToDesk(Struct, frozen=True, array_like=True):
    """From a process to the dispatcher."""

    round: int = 0
    """The last one that it has heard of."""
    whole: bool = False
    """These are all of its requests, and it uses no block."""
    entered: tuple[Request, ...] = ()
    left: tuple[int, ...] = ()
    finished: tuple[tuple[int, int], ...] = ()
    """With what each one did cost, in weighted tokens."""
    first_tokens: tuple[tuple[float, int], ...] = ()
    """Seconds since the request was sent to its engine, and tokens of the prompt."""


class ToMember(Struct, frozen=True, array_like=True):
    """From the dispatcher to a process. `block` is how many requests it may run without asking."""

    round: int = 0
    busy: bool = True
    """Somebody waits: nobody passes by a block, and everybody tells all that runs."""
    block: int = 0
    granted: tuple[int, ...] = ()
    refused: tuple[tuple[int, str, float], ...] = ()
    """With the error's code, and after how many seconds it is worth another try."""
