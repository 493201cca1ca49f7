"""No level widens what another allowed, and nothing runs outside the set."""

from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.residency import Elsewhere, Here, Nowhere, Unhealthy, decide, expand, narrow

NAMES = ("fr-par", "fr-mrs", "de-fra", "es-mad")
JURISDICTIONS = {"fr-par": "FR", "fr-mrs": "FR", "de-fra": "DE", "es-mad": "ES"}
REGIONS = st.lists(st.sampled_from(NAMES), unique=True)
LEVELS = st.lists(st.none() | REGIONS, max_size=4)
HEALTHY = st.frozensets(st.sampled_from(NAMES))


@given(REGIONS, LEVELS)
def test_narrowing_is_the_intersection_of_all_levels(allowed: list[str], levels: list[list[str] | None]) -> None:
    wanted = set(allowed)
    for level in levels:
        if level is not None:
            wanted &= set(level)
    left = narrow(allowed, *levels)
    assert set(left) == wanted
    assert len(left) == len(wanted)


@given(REGIONS, REGIONS)
def test_the_last_level_that_speaks_sets_the_order(allowed: list[str], level: list[str]) -> None:
    assert list(narrow(allowed, level, None)) == [name for name in level if name in allowed]


@given(REGIONS, st.sampled_from(NAMES), HEALTHY)
def test_a_decision_never_leaves_the_allowed_and_healthy_regions(
    allowed: list[str], here: str, healthy: frozenset[str]
) -> None:
    decision = decide(allowed, here, healthy)
    usable = [name for name in allowed if name in healthy]
    if not allowed:
        assert decision == Nowhere()
    elif not usable:
        assert decision == Unhealthy(tuple(allowed))
    elif here in usable:
        assert decision == Here()
    else:
        assert decision == Elsewhere(usable[0])


@given(st.lists(st.sampled_from((*NAMES, "FR", "DE", "ES", "XX", "nowhere"))))
def test_jurisdictions_expand_to_their_regions_each_once(entries: list[str]) -> None:
    names = expand(entries, JURISDICTIONS)
    assert len(set(names)) == len(names)
    assert set(names) == {name for name in NAMES if name in entries or JURISDICTIONS[name] in entries}


def test_expansion_keeps_the_order_of_preference() -> None:
    assert expand(["de-fra", "FR"], JURISDICTIONS) == ("de-fra", "fr-par", "fr-mrs")
