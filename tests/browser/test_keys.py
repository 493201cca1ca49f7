"""A key that the portal made works as its snippets say, and stops when it is revoked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.hands import Hands, Keyboard, Mouse
from tests.browser.look import Look
from tests.browser.screens import choose_look, go_to, sign_up
from tests.browser.test_journey import make_first_key, new_account
from tests.browser.visitor import Visitor, visit
from tests.instance import Instance

_NODE = Path(sys.executable).parent / "node"
# `npm install openai` stands in for the package: what the snippet hands to it is what counts.
_OPENAI_STAND_IN = """
export default class OpenAI {
  constructor({ baseURL, apiKey }) {
    const create = async (body) => {
      const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
      const url = `${baseURL}/chat/completions`;
      const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
      return answer.json();
    };
    this.chat = { completions: { create } };
  }
}
"""


@pytest.mark.parametrize("region", ["fr-par", "de-fra"])
async def test_snippets_run_as_they_are_shown(
    browser: Browser, instance: Instance, tmp_path: Path, region: str
) -> None:
    async with visit(browser, instance.portal_url, [], Look()) as visitor:
        await visitor.open("/sign-up")
        await choose_look(visitor)
        await sign_up(visitor, instance, new_account(), "Org 1")
        await make_first_key(visitor, instance, region)
        codes = {name: await snippet(visitor, region, name) for name in ("curl", "Python", "JavaScript")}
    package = tmp_path / "node_modules" / "openai"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"type": "module", "main": "index.js"}')
    (package / "index.js").write_text(_OPENAI_STAND_IN)
    (tmp_path / "call.mjs").write_text(codes["JavaScript"])
    assert json.loads(run("sh", "-c", codes["curl"]))["choices"][0]["message"]["content"]
    assert run(sys.executable, "-c", codes["Python"]).strip()
    assert run(str(_NODE), str(tmp_path / "call.mjs")).strip() not in {"", "undefined"}


@pytest.mark.parametrize("hands", [Mouse, Keyboard], ids=lambda hands: hands.name)
async def test_revoked_key_is_refused_and_its_secret_is_gone(
    browser: Browser, instance: Instance, hands: type[Hands]
) -> None:
    async with visit(browser, instance.portal_url, [], Look("fr", "dark"), by=hands) as visitor:
        await visitor.open("/sign-up")
        await choose_look(visitor)
        await sign_up(visitor, instance, new_account(), "Org 2")
        secret = await make_first_key(visitor, instance, "fr-par")
        code = await snippet(visitor, "fr-par", "curl")
        await go_to(visitor, "API keys", "/keys")
        await expect(visitor.named("heading", "API keys")).to_be_visible()
        assert secret not in await visitor.page.content()
        name = visitor.text("First key")
        await visitor.hands.press(visitor.named("button", "Revoke the key “%(name)s”", name=name))
        dialog = visitor.page.get_by_role("dialog")
        await expect(dialog.get_by_role("button", name=visitor.text("Cancel"))).to_be_focused()
        await visitor.check_page()
        await visitor.hands.press(dialog.get_by_role("button", name=visitor.text("Revoke"), exact=True))
        await expect(visitor.page.get_by_role("status")).to_contain_text(name)
        await visitor.check_page()
    assert "invalid_api_key" in run("sh", "-c", code)


async def snippet(visitor: Visitor, region: str, name: str) -> str:
    shown = visitor.page.locator(f"[data-choice={region}]")
    return str(await shown.locator("[role=tabpanel]").filter(has_text=name).locator("code").text_content())


def run(*command: str) -> str:
    """What it prints. Also fails if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
