"""Draws what `make bench-gateway` measured: `python plot.py gateway.json FOLDER` makes one picture for each theme.

It runs in an environment of its own that has matplotlib, and knows nothing of Chappe.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

mpl.use("svg")
# The same picture for the same figures.
mpl.rcParams["svg.hashsalt"] = "chappe"

NAMES = {
    "upstream": "bare upstream",
    "nginx": "nginx, passes through",
    "chappe": "Chappe, everything on",
    "chappe_tls": "Chappe, with TLS too",
    "portkey": "Portkey's gateway",
    "litellm": "LiteLLM's proxy",
}
PANELS = {
    "unary_rps": ("whole answers per second", 1.0),
    "streams_per_s": ("streams of 66 chunks per second", 1.0),
    "added_p50_ms": ("added latency, p50, ms", 0.01),
}
"""Each with its title, and where its scale begins."""
THEMES = {"light": ("#1f2937", "#9ca3af", "#2563eb"), "dark": ("#e5e7eb", "#4b5563", "#60a5fa")}
"""Text, the others' bars, ours."""


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_bytes())
    for theme, (ink, others, ours) in THEMES.items():
        figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 2.8), layout="constrained", sharey=True)
        for axis, name in zip(axes, PANELS, strict=True):
            draw(axis, results, name, ink=ink, others=others, ours=ours)
        path = Path(sys.argv[2]) / f"gateway-{theme}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(figure)


def draw(axis: Axes, results: dict[str, Any], figure: str, *, ink: str, others: str, ours: str) -> None:
    """One bar for each system that has the figure, on a logarithmic scale."""
    title, begin = PANELS[figure]
    names = [name for name in reversed(NAMES) if name in results]
    values = [max(0.0, results[name][figure]) for name in names]
    colours = [ours if name.startswith("chappe") else others for name in names]
    axis.barh([NAMES[name] for name in names], values, color=colours)
    axis.set_xscale("log")
    axis.set_xlim(begin, 20 * max(values))
    for place, value in enumerate(values):
        axis.annotate(
            said(value),
            (max(value, begin), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            color=ink,
            fontsize=8,
        )
    axis.set_title(title, color=ink, fontsize=10, loc="left")
    axis.tick_params(colors=ink, labelsize=8, length=0)
    axis.xaxis.set_visible(False)
    for side in axis.spines.values():
        side.set_visible(False)


def said(value: float) -> str:
    """Three digits of it, if there is anything to say."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}" if value else "–"  # noqa: RUF001  # a dash


if __name__ == "__main__":
    main()
