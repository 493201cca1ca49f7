"""What one bad client sends on one connection, and what may come back. Seeded by Hypothesis."""

import itertools
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.fuzz.bodies import BOMB, TARGETS, Target, bodies


@dataclass(frozen=True)
class Case:
    """`pieces` are written one after another. `may_wait`: perhaps something is missing, and nothing comes back."""

    target: Target
    pieces: tuple[bytes, ...]
    may_wait: bool
    is_head: bool = False
    knows_path: bool = True
    """Whether the request's first line can be read."""


_CODINGS = (
    b"gzip",
    b"deflate",
    b"br",
    b"zstd",
    b"identity, gzip",
    b"GZIP",
    b"x-gzip",
    b"chunked",
    b"\x80",
    b"identity",
)
_TYPES = (
    b"text/plain",
    b"application/json; charset=utf-16",
    b"application/x-www-form-urlencoded",
    b"",
    b"multipart/x",
    b"\xff",
)
_METHODS = (
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PRI",
    "PROPFIND",
    "get",
    "POST",
    "A" * 300,
    "P\0ST",
    "",
)
_TARGETS = (
    *(
        b"*",
        b"//",
        b"/",
        b"/v1/../v1/models",
        b"/v1/models/%00",
        b"/v1/models/%ff%fe",
        b"/v1/models/%",
        b"/v1/%6dodels",
    ),
    *(
        b"http://169.254.169.254/v1/models",
        b"http://[::1/v1/models",
        b"https://evil.example:99999/v1/models",
        b"evil:80",
    ),
    *(
        b"/v1/models?" + b"a=b&" * 5000,
        b"/v1/models#x",
        b"/v1/models\x00",
        b"/v1/models\xff",
        b"/" + b"a" * 70_000,
        b"",
    ),
    *(
        b"/v1/messages/%2e%2e/models",
        b"/openai/deployments/a%0d%0ab/chat/completions?api-version=2024-10-21",
        b"/v1/models HTTP/1.1",
    ),
    *(
        b"/openai/deployments/" + b"x" * 101 + b"/embeddings?api-version=v1",
        b"/-/routes",
        b"/metrics",
        b"/internal/v1/usage",
    ),
)
_LINES = (
    *(b"content-length: 0", b"content-length: 5", b"Content-Length: 5", b"content-length: -1", b"content-length: +5"),
    *(
        b"content-length: 0x10",
        b"content-length: 5, 5",
        b"content-length: 99999999999999999999",
        b"content-length: 1 1",
    ),
    *(
        b"content-length : 5",
        b"content-length:\t5",
        b"content-length: 5\r\n 6",
        b"content_length: 5",
        b"content-length: 1073741824",
    ),
    *(b"transfer-encoding: chunked", b"transfer-encoding: identity", b"transfer-encoding: gzip, chunked"),
    *(b"transfer-encoding: chunked, identity", b"transfer-encoding: xchunked", b"transfer-encoding:\x0bchunked"),
    *(
        b"transfer-encoding : chunked",
        b"Transfer-Encoding: CHUNKED",
        b"transfer-encoding:\r\n chunked",
        b"te: trailers",
    ),
    *(
        b"x: a\x00b",
        b"x\x00y: a",
        b"x: a\rb",
        b"x: a\nb",
        b" x: folded",
        b"\tx",
        b": no name",
        b"no colon",
        b"x: \x80\xff",
        b"(x): y",
    ),
    *(
        b"host: a\r\nhost: b",
        b"expect: 100-continue",
        b"expect: 200-ok",
        b"connection: close, upgrade\r\nupgrade: websocket",
    ),
    *(
        b"connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk",
        b"connection: keep-alive, x",
        b"connection: \x00",
    ),
    *(
        b"x-chappe-region: \xff",
        b"x-chappe-region: " + b"fr-par," * 3000,
        b"x-chappe-priority: \xf0",
        b"idempotency-key: \xc3\xa9",
    ),
    *(
        b"origin: http://localhost:8400",
        b"origin: null",
        b"x-forwarded-for: " + b"1," * 10_000,
        b"cookie: " + b"c" * 40_000,
    ),
    *(
        b"authorization: Bearer x",
        b"api-key: " + b"k" * 30_000,
        b"x-api-key: \x80",
        b"anthropic-version: \xff",
        b"anthropic-beta: x",
    ),
    *(
        b"x: " + b"y" * 66_000,
        b"\r\n".join([b"x: y"] * 130),
        b"\r\n".join([b"x: y"] * 5000),
        b"content-type: text/html",
    ),
)
_VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/11",
    b"",
    b"ICY 1.1",
)
_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\x0b\r\n", b"\x00\r\n")
_CHUNKS = (
    *(b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;" + b"x" * 20_000 + b"\r\nhello\r\n0\r\n\r\n"),
    *(b"5\nhello\n0\n\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n"),
    *(
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nhello",
        b"fffffffff0000000f\r\nhello",
    ),
    *(b"5\r\nhello\r\n0\r\nauthorization: Bearer x\r\n\r\n", b"5\r\nhello\r\n0\r\nx: " + b"t" * 70_000 + b"\r\n\r\n"),
    *(
        b"5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"5\r\nhello\r\n00000000000000000000\r\n\r\n",
        b"5_0\r\nhello",
    ),
    *(b"1\r\n{\r\n" * 5000 + b"0\r\n\r\n", b"", b"\r\n", b"zz\r\n"),
)


def _head(key: str, target: Target, *lines: bytes) -> bytes:
    return b"\r\n".join(
        [b"%b %b HTTP/1.1" % (target.method.encode(), target.path.encode()), *_usual(key), *lines, b"", b""]
    )


def _usual(key: str) -> list[bytes]:
    return [b"host: x", b"authorization: Bearer " + key.encode(), b"content-type: application/json"]


def _chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@st.composite
def _bad_body(draw: st.DrawFn, key: str) -> Case:
    """The head is good, and says what follows."""
    target = draw(st.sampled_from(TARGETS))
    body = draw(bodies(target))
    if draw(st.booleans()):
        sent = _chunked(body, draw(st.sampled_from([1, 7, 4096, 2**20])) if len(body) < 5000 else 2**16)
        head = _head(key, target, b"transfer-encoding: chunked")
    else:
        sent, head = body, _head(key, target, b"content-length: %d" % len(body))
    return Case(target, _pieces(draw, head + sent), may_wait=False)


@st.composite
def _coded_body(draw: st.DrawFn, key: str) -> Case:
    target = draw(st.sampled_from(TARGETS))
    body = draw(st.sampled_from([BOMB, b"{}"]))
    line = draw(
        st.sampled_from([b"content-encoding: " + c for c in _CODINGS] + [b"content-type: " + t for t in _TYPES])
    )
    head = _head(key, target, line, b"content-length: %d" % len(body))
    return Case(target, _pieces(draw, head + body), may_wait=False)


@st.composite
def _bad_head(draw: st.DrawFn, key: str) -> Case:
    """Lines that contradict each other or are none, on any method, target and version."""
    target = draw(st.sampled_from(TARGETS))
    method = draw(st.just(target.method) | st.sampled_from(_METHODS))
    path = draw(st.just(target.path.encode()) | st.sampled_from(_TARGETS))
    version = draw(st.just(b"HTTP/1.1") | st.sampled_from(_VERSIONS))
    lines = _usual(key) if draw(st.booleans()) else []
    for line in draw(st.lists(st.sampled_from(_LINES), max_size=4)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    end = draw(st.just(b"\r\n") | st.sampled_from(_ENDS))
    head = end.join([b" ".join([method.encode(), path, version]), *lines, b"", b""])
    rest = draw(st.just(b"") | st.sampled_from(_CHUNKS) | st.binary(max_size=50))
    is_usual = method == target.method and path == target.path.encode() and version == b"HTTP/1.1"
    return Case(target, _pieces(draw, head + rest), may_wait=True, is_head=method == "HEAD", knows_path=is_usual)


@st.composite
def _bad_chunks(draw: st.DrawFn, key: str) -> Case:
    target = draw(st.sampled_from(TARGETS))
    head = _head(key, target, b"transfer-encoding: chunked")
    return Case(target, _pieces(draw, head + draw(st.sampled_from(_CHUNKS) | st.binary(max_size=60))), may_wait=True)


@st.composite
def _noise(draw: st.DrawFn, key: str) -> Case:
    """No HTTP at all, or a good request with bytes changed anywhere."""
    target = draw(st.sampled_from(TARGETS))
    data = bytearray(_head(key, target, b"content-length: 2") + b"{}")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    sent = draw(st.just(bytes(data)) | st.binary(min_size=1, max_size=300))
    return Case(target, _pieces(draw, sent), may_wait=True, knows_path=False)


@st.composite
def _pipelined(draw: st.DrawFn, key: str) -> Case:
    """Several at once, the last one bad or half."""
    target = draw(st.sampled_from([target for target in TARGETS if target.method == "GET"]))
    last = draw((_bad_body(key) | _bad_head(key) | _noise(key)).filter(lambda case: not case.is_head))
    first = _head(key, target) * draw(st.sampled_from([1, 2, 10, 200]))
    return Case(target, (first, *last.pieces), may_wait=True, knows_path=False)


def _pieces(draw: st.DrawFn, data: bytes) -> tuple[bytes, ...]:
    cuts = sorted(draw(st.lists(st.integers(0, min(len(data), 400)), max_size=3)))
    edges = [0, *cuts, len(data)]
    return tuple(data[begin:end] for begin, end in itertools.pairwise(edges) if begin < end) or (b"",)


def cases(key: str) -> st.SearchStrategy[Case]:
    """`key` opens all paths: what is refused is refused for what it says."""
    bad = [
        _bad_body(key),
        _bad_body(key),
        _coded_body(key),
        _bad_head(key),
        _bad_chunks(key),
        _noise(key),
        _pipelined(key),
    ]
    return st.one_of(*bad)
