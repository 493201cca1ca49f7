"""A route of the API: where, what it takes, what it does."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chappe_local.stripe_stand_in.parameters import Spec

Act = Callable[..., dict[str, Any]]
"""Called with the world, the read parameters, and the path's parts; gives the object that is answered."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    """With `{id}` for what varies."""
    act: Act
    known: Mapping[str, Spec] = field(default_factory=dict)
    """Its parameters. `expand` is taken everywhere."""
    required: tuple[str, ...] = ()

    @property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{[a-z]+\}", "([^/]+)", self.path))
