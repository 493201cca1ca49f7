"""Parser differentials: a URL is read once, and whatever two parsers could read differently is refused."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chappe_control.webhooks.target import Target, parse_target
from chappe_kernel.errors import Invalid


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.org", Target(True, "hooks.example.org", 443, "/")),
        ("https://hooks.example.org/a/b?c=d%20e", Target(True, "hooks.example.org", 443, "/a/b?c=d%20e")),
        ("https://hooks.example.org:8443/", Target(True, "hooks.example.org", 8443, "/")),
        ("https://xn--bcher-kva.example/", Target(True, "xn--bcher-kva.example", 443, "/")),
        ("https://hooks.example.org?x", Target(True, "hooks.example.org", 443, "/?x")),
    ],
)
def test_a_plain_url_is_taken(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.org/", "ftp://hooks.example.org/", "hooks.example.org", "//hooks.example.org/", ""),
        *("https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/"),
        *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://localhost/", "https://metadata/"),
        *("https://a@hooks.example.org/", "https://hooks.example.org:pw@10.0.0.1/", "https://10.0.0.1#@example.org/"),
        *("https://example.org\\@10.0.0.1/", "https:\\\\example.org/", "https:/example.org/", "https:///example.org/"),
        *("https://example.org:443@10.0.0.1/", "https://example.org:80/", "https://example.org:22/", "https://e.org:/"),
        *(
            "https://example.org/#x",
            "https://example.org /",
            " https://example.org/",
            "https://example.org/\r\nHost: x",
        ),
        *(
            "https://exa\u3002mple.org/",
            "https://\u24d4xample.org/",
            "https://example\uff0eorg/",
            "https://ex%61mple.org/",
        ),
        *("https://example.org./", "https://.example.org/", "https://exa_mple.org/", "https://-example.org/"),
        *("https://example.org/\x00", "https://example.org/\u00e9", "HTTPS://example.org/", "https://EXAMPLE.org/"),
        *("https://example.org:+443/", "https://example.org:\u0664\u0664\u0663/", "https://a." + "b" * 64 + ".org/"),
        "https://example.org/" + "a" * 2000,
        "https://" + "a." * 130 + "org/",
        *("http://127.0.0.1:8000/", "http://localhost:8000/"),
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        parse_target(url)


def test_only_for_development_the_loopback_is_taken() -> None:
    assert parse_target("http://127.0.0.1:8000/x", to_loopback=True) == Target(False, "127.0.0.1", 8000, "/x")
    assert parse_target("http://localhost/", to_loopback=True).port == 80
    for url in ("http://example.org/", "http://127.0.0.2/", "http://10.0.0.1/", "http://localhost.example.org/"):
        with pytest.raises(Invalid):
            parse_target(url, to_loopback=True)


@given(
    url=st.text(alphabet="aA0.-:/@\\#?%[]_ \t\n\u3002\uff0e", max_size=24).map(lambda rest: f"https://{rest}")
    | st.from_regex(r"https://[a-z.@:/\\#?0-9-]{1,30}", fullmatch=True)
)
def test_what_is_taken_every_parser_reads_alike(url: str) -> None:
    try:
        found = parse_target(url)
    except Invalid:
        return
    other = urlsplit(url)
    assert (other.hostname, other.port or 443, other.username) == (found.host, found.port, None)
    assert (other.path or "/") + (f"?{other.query}" if "?" in url else "") == found.path
