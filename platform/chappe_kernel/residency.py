"""Where a request may run. Pure, and shared: the control plane narrows, every gateway decides.

An allow-list is an ordered tuple of region names; order is preference. Each level (tenant, project, key, request
header) can only take regions away. `None` means that a level says nothing.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Here(Struct, frozen=True):
    """This gateway's region may execute the request."""


class Nowhere(Struct, frozen=True):
    """The set is empty: 403 `residency_denied`."""


class Unhealthy(Struct, frozen=True):
    """The set is not empty, and nothing in it is healthy: 503 `region_unavailable`."""

    allowed: tuple[str, ...]


class Elsewhere(Struct, frozen=True):
    """This gateway is outside the set: 421 with the URL of `region`'s gateway."""

    region: str


Decision = Here | Nowhere | Unhealthy | Elsewhere


def expand(entries: Iterable[str], jurisdiction_of: dict[str, str]) -> tuple[str, ...]:
    """Region names for a list of region names and jurisdictions (`FR`), in order, each once; unknown ones fall away."""
    names: dict[str, None] = {}
    for entry in entries:
        if entry in jurisdiction_of:
            names[entry] = None
        for region, jurisdiction in jurisdiction_of.items():
            if jurisdiction == entry:
                names[region] = None
    return tuple(names)


def narrow(allowed: Sequence[str], *levels: Sequence[str] | None) -> tuple[str, ...]:
    """What is left of `allowed`, in the order of the last level that expresses one."""
    left = tuple(allowed)
    for level in levels:
        if level is not None:
            left = tuple(region for region in level if region in left)
    return left


def decide(allowed: Sequence[str], here: str, healthy: frozenset[str]) -> Decision:
    """The first three rows of the residency table. Looks at names only, so it needs no body.

    This gateway's own region wins over a preferred one elsewhere: the caller chose it by calling here.
    """
    if not allowed:
        return Nowhere()
    usable = [region for region in allowed if region in healthy]
    if not usable:
        return Unhealthy(tuple(allowed))
    if here in usable:
        return Here()
    return Elsewhere(usable[0])
