"""No prompt and no completion passes through the control plane: read from the wire while the playground is used."""

import os
import secrets
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, expect

from tests.browser.chromium import give_up
from tests.browser.look import Look
from tests.browser.screens import choose_look, go_to, sign_up
from tests.browser.test_journey import new_account, new_organisation
from tests.browser.traffic import Traffic, spoken
from tests.browser.visitor import visit
from tests.instance import Instance

_SETTLED_MS = 30_000


async def test_words_of_the_playground_reach_the_gateway_and_not_the_control_plane(
    browser: Browser, instance: Instance
) -> None:
    if os.geteuid() != 0:
        give_up("only root may read the loopback's packets", os.environ)
    mark = f"zq8-{secrets.token_hex(8)}"
    control, gateway = port(instance.portal_url), port(instance.gateway("fr-par"))
    with Traffic([control, gateway]) as traffic:
        async with visit(browser, instance.portal_url, instance.gateway_urls, Look()) as visitor:
            await visitor.open("/sign-up")
            await choose_look(visitor)
            await sign_up(visitor, instance, new_account(), mark_of_organisation := new_organisation())
            await go_to(visitor, "Playground", "/playground")
            await visitor.hands.choose(visitor.field("Region"), "fr-par")
            await visitor.hands.write(visitor.page.locator("#playground-max-tokens"), "60")
            await visitor.hands.write(visitor.field("Message"), f"Tell me a story about the word {mark}.")
            await visitor.hands.press(visitor.named("button", "Send"))
            settled = visitor.named("link", "How the price comes about")
            await expect(settled).to_be_visible(timeout=_SETTLED_MS)
            answer = (await visitor.page.locator(".turn-answer [data-part=text]").inner_text()).strip()
    assert len(answer) > 40
    assert mark.encode() in traffic.sent_to(gateway)
    assert " ".join(answer.split()) in " ".join(spoken(traffic.sent_from(gateway)).split())
    for sent in (traffic.sent_to(control), traffic.sent_from(control)):
        assert mark.encode() not in sent
        assert answer[:30] not in spoken(sent)
        assert answer[:30].encode() not in sent
    # What is sent to the control plane is seen there, as it stands in the sign-up's form.
    assert mark_of_organisation.replace(" ", "+").encode() in traffic.sent_to(control)


def port(url: str) -> int:
    return urlsplit(url).port or pytest.fail(f"{url} names no port")
