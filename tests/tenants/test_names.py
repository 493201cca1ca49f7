"""Names that people will read hold nothing that lies about itself."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_kernel.errors import Invalid
from chappe_tenants.naming import MAX_NAME_LENGTH, clean_email, clean_name


@given(st.text(max_size=200))
def test_accepted_names_are_short_printable_and_stable(text: str) -> None:
    try:
        name = clean_name(text, param="name")
    except Invalid as error:
        assert error.param == "name"
        return
    assert 1 <= len(name) <= MAX_NAME_LENGTH
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in name)
    assert clean_name(name, param="name") == name


@pytest.mark.parametrize("text", ["", "  ", "a\x00b", "a\nb", "a\x7fb", "a\u2028b", "a\u202eb", "\ud800", "x" * 101])
def test_refused(text: str) -> None:
    with pytest.raises(Invalid):
        clean_name(text, param="name")


@pytest.mark.parametrize(
    "text",
    [
        "Société Générale",
        "日本電信電話",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "O'Neil & Sons; DROP TABLE",
        "👩\u200d💻 lab",
    ],
)
def test_allowed(text: str) -> None:
    assert clean_name(f" {text} ", param="name") == text


def test_email_is_lower_case_and_has_two_parts() -> None:
    assert clean_email(" Mia@Example.ORG ") == "mia@example.org"
    for text in ("mia", "@example.org", "mia@", "mia@exa mple.org", "é@example.org", "a\x00@b.c", "x" * 251 + "@b.c"):
        with pytest.raises(Invalid):
            clean_email(text)
