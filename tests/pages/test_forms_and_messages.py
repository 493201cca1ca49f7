"""Forms say what is wrong where it is wrong; a message is told once."""

import base64
import re

import pytest

from chappe_control.pages.flash import FLASH_COOKIE
from chappe_control.pages.forms import WHOLE_FORM, Form
from tests.pages.browser import Visitor


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


def test_form_without_a_value_is_empty_and_right() -> None:
    form = Form()
    assert (form.value("name"), form.error("name"), form.whole_error) == ("", None, None)
    assert Form({}, {WHOLE_FORM: "no"}).whole_error == "no"


async def test_wrong_field_says_so_to_everybody(visitor: Visitor) -> None:
    text = (await visitor.get("/show")).text
    field = re.search(r'<input class="form-control is-invalid" id="name"[^>]*>', text)
    assert field is not None
    assert 'aria-invalid="true"' in field[0]
    assert 'aria-describedby="name-error name-hint"' in field[0]
    assert 'id="name-error">At most twelve characters.' in text
    assert re.search(r'class="alert alert-red[^>]*role="alert"[^>]*tabindex="-1"', text)


async def test_every_posting_form_carries_the_token(visitor: Visitor) -> None:
    text = (await visitor.get("/show")).text
    forms = re.findall(r"<form[^>]*method=\"post\".*?</form>", text, re.DOTALL)
    assert len(forms) > 4
    token = await visitor.csrf_token()
    assert all(f'name="_csrf_token" value="{token}"' in form for form in forms)


async def test_password_is_never_written_back(visitor: Visitor) -> None:
    field = re.search(r'<input[^>]*type="password"[^>]*>', (await visitor.get("/show")).text)
    assert field is not None
    assert "value=" not in field[0]


async def test_message_is_shown_once_and_escaped(visitor: Visitor) -> None:
    await visitor.get("/show")
    assert (await visitor.post("/act")).status_code == 303
    live = await visitor.live("/show/live", "/show")
    assert "Done" not in live.text
    first, second = await visitor.get("/show"), await visitor.get("/show")
    assert "Done &lt;b&gt;now&lt;/b&gt;" in first.text
    assert "Done" not in second.text


@pytest.mark.parametrize("value", ["x", "a" * 5000, _encoded(b'["hi","purple"]'), _encoded(b'{"text":1}')])
async def test_message_that_is_not_ours_is_ignored(visitor: Visitor, value: str) -> None:
    visitor.cookies[FLASH_COOKIE] = value
    answer = await visitor.get("/show")
    assert answer.status_code == 200
    assert answer.text.count('<div class="toasts"') == 1
    toasts, found, _ = answer.text.partition('<div class="toasts"')[2].partition('<div class="page-header"')
    assert found and "toast-note" not in toasts


async def test_fragment_is_no_page(visitor: Visitor) -> None:
    text = (await visitor.live("/show/live", "/show")).text
    assert "<html" not in text
    assert 'id="stat-balance"' in text


async def test_links_of_a_table_keep_the_query_and_lead_to_the_page(visitor: Visitor) -> None:
    text = (await visitor.get("/show?sort=name&order=asc&filter=a%26b")).text
    assert 'aria-sort="ascending"' in text
    assert "/show?sort=name&amp;order=desc&amp;filter=a%26b" in text
    assert "/show?sort=requests&amp;order=desc&amp;filter=a%26b" in text
    assert "cursor=next" in text
