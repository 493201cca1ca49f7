"""axe-core over a page, up to WCAG 2.2 AA."""

import functools
import json
from pathlib import Path
from typing import Any

from playwright.async_api import Page

_SOURCE = Path(__file__).parents[2] / "platform/chappe_control/web/node_modules/axe-core/axe.min.js"
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Preloading would ask for style sheets again; nothing here needs it.
_OPTIONS = {"runOnly": {"type": "tag", "values": _TAGS}, "resultTypes": ["violations"], "preload": False}
_RUN = f"""async () => {{
    const found = await axe.run(document, {json.dumps(_OPTIONS)});
    return {{violations: found.violations, rules: found.passes.length + found.violations.length}};
}}"""
_SHOWN_NODES = 3


@functools.cache
def _source() -> str:
    return _SOURCE.read_text()


async def violations(page: Page) -> list[str]:
    """One line for each violation: the rule, why, and the first elements. Also fails if axe had nothing to check.

    The script comes through the debugging protocol, which the page's policy does not reach: it need not be weakened.
    """
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(f"() => {{ {_source()} }}")
    found = await page.evaluate(_RUN)
    assert found["rules"] > 0, "axe found no rule that applies"
    return [_line(violation) for violation in found["violations"]]


def _line(violation: dict[str, Any]) -> str:
    nodes = violation["nodes"][:_SHOWN_NODES]
    where = "; ".join(f"{' '.join(map(str, node['target']))} ({_why(node)})" for node in nodes)
    return f"axe {violation['id']} at {len(violation['nodes'])}: {where}"


def _why(node: dict[str, Any]) -> str:
    return " ".join(check["message"] for check in [*node["any"], *node["all"], *node["none"]])
