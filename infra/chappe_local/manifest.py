"""The catalogue that a local instance sells: `catalogue.json`, with the addresses of this instance filled in."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One region of the manifest; `index` gives it its ports."""

    name: str
    jurisdiction: str
    index: int
    deployments: tuple[str, ...]

    def part(self, kind: str) -> str:
        """The name of this cell's part of a kind: `fr-par-gateway`."""
        return f"{self.name}-{kind}"

    @property
    def variable(self) -> str:
        """The name as it stands in environment variables: `FR_PAR`."""
        return self.name.upper().replace("-", "_")


@functools.cache
def cells() -> tuple[Cell, ...]:
    """The regions, in the manifest's order."""
    manifest = _read()
    return tuple(
        Cell(
            name=region["name"],
            jurisdiction=region["jurisdiction"],
            index=index,
            deployments=tuple(
                deployment["name"] for deployment in manifest["deployments"] if deployment["region"] == region["name"]
            ),
        )
        for index, region in enumerate(manifest["regions"])
    )


def model_for(task: str) -> str:
    """The first listing that does `task` (`chat` or `embeddings`)."""
    return str(next(listing["name"] for listing in _read()["listings"] if listing["task"] == task))


def manifest_with(gateway_urls: Mapping[str, str]) -> dict[str, Any]:
    """The manifest as `chappe catalogue apply` takes it. `gateway_urls` is by region."""
    manifest = _read()
    for region in manifest["regions"]:
        region["gateway_url"] = gateway_urls[region["name"]]
    return manifest


def _read() -> dict[str, Any]:
    text = (resources.files("chappe_local") / "catalogue.json").read_text()
    manifest: dict[str, Any] = json.loads(text)
    return manifest
