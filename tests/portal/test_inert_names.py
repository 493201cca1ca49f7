"""Whatever people write into names is text on every page, and nothing else."""

import pytest

from chappe_kernel.ids import REQUEST, encode_id
from tests.portal.reading import read_page
from tests.portal.world import PortalWorld, Use

ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)' autofocus='",
    "</title></textarea><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "%(name)s %s {0}",
    "javascript:alert(1)",
    '<!-- --><b x-data="alert(1)" @click="alert(1)">',
    "a&lt;b&amp;c",
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_names_stay_text_everywhere(portal: PortalWorld, attack: str) -> None:
    customer = await portal.sign_up(attack)
    harmless = await portal.sign_up("harmless")
    await customer.make_key(attack)
    await harmless.make_key("harmless")
    (event,) = await portal.use(customer, attack, "fr-par", Use())
    (same,) = await portal.use(harmless, "harmless", "fr-par", Use())
    for path, twin in [
        *((path, path) for path in ("/overview", "/overview/live", "/requests", "/keys")),
        (f"/requests/{encode_id(REQUEST, event.request_id)}", f"/requests/{encode_id(REQUEST, same.request_id)}"),
    ]:
        page = await customer.read(path)
        plain = await harmless.read(twin)
        # The same elements with the same attributes: nothing of the name became a tag or an attribute.
        assert shape(page.walk()) == shape(plain.walk()), path
        assert path == "/overview/live" or attack in [one.exact_text.strip() for one in page.walk()], path


async def test_refused_name_comes_back_as_text(portal: PortalWorld) -> None:
    customer = await portal.sign_up("harmless")
    name = '"><script>alert(1)</script>' + "x" * 100
    answer = await customer.visitor.post("/keys", name=name, kind='"><script>')
    page = read_page(answer.text)
    assert page.by_id("name").attributes["value"] == name
    assert all("src" in script.attributes for script in page.all("script"))


def shape(elements: object) -> list[tuple[str, frozenset[str]]]:
    return [(one.tag, frozenset(one.attributes)) for one in elements]  # type: ignore[attr-defined]  # any iterable
