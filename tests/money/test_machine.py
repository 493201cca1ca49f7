"""The money's state machine: `CHAPPE_MONEY_EXAMPLES=500` plays longer, and never the same twice."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.money.machine import Money
from tests.money.playing import played

__all__ = ["played"]

EXAMPLES = os.environ.get("CHAPPE_MONEY_EXAMPLES")


@pytest.mark.timeout(0 if EXAMPLES else 600)
def test_money(played: type[Money]) -> None:
    run_state_machine_as_test(
        played,
        settings=settings(
            max_examples=int(EXAMPLES or 8),
            stateful_step_count=30,
            deadline=None,
            derandomize=EXAMPLES is None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # Making an example smaller takes minutes: for whoever plays on purpose.
            phases=[Phase.generate, *([Phase.shrink] if EXAMPLES else [])],
            print_blob=True,
        ),
    )
