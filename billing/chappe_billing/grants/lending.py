"""How much of what is free a grant gets. Pure; money is whole nanos."""

SHARE = 4
"""One gateway takes at most one part in so many ahead of need. So the less is left the smaller grants are, and near
exhaustion a grant is just what requests wait for."""


def lent_nano(free_nano: int, *, wanted_nano: int, minimum_nano: int, needed_nano: int | None = None) -> int | None:
    """What is lent when `free_nano` is free; `None` when that is less than the minimum.

    What requests wait for (`needed_nano`; None is all that is wanted) is lent as far as it is there, what is wanted
    beyond it up to a share of what is free.
    """
    needed = wanted_nano if needed_nano is None else min(needed_nano, wanted_nano)
    amount = min(free_nano, wanted_nano, max(needed, free_nano // SHARE))
    return amount if amount >= minimum_nano else None
