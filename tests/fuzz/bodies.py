"""Bodies that no client should send: broken, huge, deep and strange JSON, and bytes that are none. By Hypothesis."""

import json
import zlib
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from chappe_gateway.dialects import completions, messages_request, responses_request
from chappe_gateway.dialects import openai_request as requests
from tests.gateway.fake_control import CHAT, EMBEDDINGS

_HI = [{"role": "user", "content": "hi"}]
_VERSION = "?api-version=2024-10-21"


class Target(NamedTuple):
    """A path, and a body that it serves."""

    method: str
    path: str
    body: dict[str, Any]
    fields: tuple[str, ...]
    """All that its API has."""
    is_charged: bool = True


def _names(body_type: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(body_type))


_CHAT: dict[str, Any] = {"model": CHAT, "messages": _HI, "max_tokens": 4}
_COMPLETION: dict[str, Any] = {"model": CHAT, "prompt": "hi", "max_tokens": 4}
_EMBEDDINGS: dict[str, Any] = {"model": EMBEDDINGS, "input": "hi"}
_RESPONSE: dict[str, Any] = {"model": CHAT, "input": "hi", "max_output_tokens": 4}
_COUNT: dict[str, Any] = {"model": CHAT, "messages": _HI}
_chat_names, _completion_names = _names(requests._ChatBody), _names(completions._Body)
_embedding_names, _response_names = _names(requests._EmbeddingsBody), _names(responses_request._Body)
_messages_names, _count_names = _names(messages_request._MessagesBody), _names(messages_request._CountBody)
_CHAT_AT, _EMBED_AT = f"/openai/deployments/{CHAT}", f"/openai/deployments/{EMBEDDINGS}"

TARGETS = (
    Target("POST", "/v1/chat/completions", _CHAT, _chat_names),
    Target("POST", "/v1/completions", _COMPLETION, _completion_names),
    Target("POST", "/v1/embeddings", _EMBEDDINGS, _embedding_names),
    Target("POST", "/v1/responses", _RESPONSE, _response_names),
    Target("POST", "/v1/messages", {**_COUNT, "max_tokens": 4}, _messages_names),
    Target("POST", "/v1/messages/count_tokens", _COUNT, _count_names, is_charged=False),
    Target("POST", f"{_CHAT_AT}/chat/completions{_VERSION}", _CHAT, _chat_names),
    Target("POST", f"{_CHAT_AT}/completions{_VERSION}", _COMPLETION, _completion_names),
    Target("POST", f"{_EMBED_AT}/embeddings{_VERSION}", _EMBEDDINGS, _embedding_names),
    Target("POST", "/openai/v1/chat/completions", _CHAT, _chat_names),
    Target("POST", "/openai/v1/responses", _RESPONSE, _response_names),
    Target("GET", "/v1/models", {}, (), is_charged=False),
    Target("GET", f"/v1/models/{CHAT}", {}, (), is_charged=False),
    Target("GET", "/openai/v1/models", {}, (), is_charged=False),
    Target("POST", "/v1/nothing-of-ours", _CHAT, (), is_charged=False),
)

_DEPTH = 5000
WEIRD_VALUES = (
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e999", b"-1e999", b"1e-999", b"-0", b"-0.0", b"0x10", b"01", b"+1"),
    *(b".5", b"1.", b"1e", b"--1", b"nul", b"nulll", b"True", b"'a'", b"undefined", b"", b",", b"}", b"]", b"{", b"["),
    *(b"%d" % (2**31), b"%d" % (2**53 + 1), b"%d" % (2**63), b"%d" % (-(2**63) - 1), b"%d" % (2**64), b"%d" % 10**30),
    *(
        b"1" * 309,
        b"9" * 4300,
        b"9" * 4301,
        b"-" + b"9" * 5000,
        b"1e308",
        b"1.7976931348623159e308",
        b"0." + b"1" * 2000,
    ),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d"', b'"\\u0000"', b'"\x00"', b'"\xff\xfe"', b'"\xc0\x80"'),
    *(b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\\x41"', b'"\\u12"', b'"', b'"unterminated', b'"\n"', b'"\\'),
    *(b"[" * _DEPTH, b"[" * _DEPTH + b"]" * _DEPTH, b'{"a":' * _DEPTH + b"1" + b"}" * _DEPTH, b"[[[[[[[[]]]]]]]]"),
    *(b"null", b"true", b"false", b"0", b"1", b"-1", b"2", b"0.5", b"1.5", b'""', b'"a"', b"[]", b"{}", b"[null]"),
    *(
        b"[{}]",
        b'[{"role":"user"}]',
        b'[{"role":"user","content":[]}]',
        b'[{"role":"user","content":[{"type":"text"}]}]',
    ),
    *(b'[{"role":"user","content":"a","role":"system"}]', b'[{"role":"user","content":[{"type":"text","text":1}]}]'),
    *(b'[{"role":"user","content":[null]}]', b'[{"role":{},"content":"a"}]', b'[[["a"]]]', b"[[1,2,-3]]", b"[1e2]"),
    *(b'{"include_usage":true}', b'{"type":"text"}', b'{"type":"json_schema"}', b'{"a":' + b"1" * 400 + b"}"),
    *(b'"' + b"a" * 100_000 + b'"', b"[" + b"1," * 50_000 + b"1]", b"[" + b'"a",' * 3000 + b'"a"]'),
    *(b'"\xe2\x80\xae\xf0\x9f\x92\xa9"', b'"' + b"\\" * 1001 + b'"', b"\xef\xbb\xbf1", b"1\x00", b"/**/1", b"1//"),
)
_UNKNOWN = (
    b"api_base",
    b"__proto__",
    b"constructor",
    b"",
    b"a\\u0000b",
    b"\\ud800",
    b"\xff",
    b"`$.x` - at `$`",
    b"x" * 70_000,
)

_texts = st.text(max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
_values = st.sampled_from(WEIRD_VALUES) | _json.map(lambda value: json.dumps(value).encode())


@st.composite
def _with_strange_fields(draw: st.DrawFn, target: Target) -> bytes:
    """The good body, and in it or beside it one to three fields with values that they should not have."""
    pairs = [(name.encode(), json.dumps(value).encode()) for name, value in target.body.items()]
    for _ in range(draw(st.integers(1, 3))):
        known = st.sampled_from([name.encode() for name in target.fields or ("model",)])
        name, value = draw(known | st.sampled_from(_UNKNOWN)), draw(_values)
        match draw(st.sampled_from(["replace", "add", "twice", "drop"])):
            case "replace":
                pairs = [(name, value) if one == name else (one, old) for one, old in pairs]
                pairs += [] if name in dict(pairs) else [(name, value)]
            case "add":
                pairs.append((name, value))
            case "twice":
                pairs = [(name, value), *pairs, (name, value)]
            case _:
                pairs = [pair for pair in pairs if pair[0] != name]
    return b"{" + b",".join(b'"%b":%b' % pair for pair in pairs) + b"}"


@st.composite
def _mutated(draw: st.DrawFn, target: Target) -> bytes:
    """The good body with bytes changed, taken out, put in or repeated."""
    body = bytearray(json.dumps(target.body).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["change", "cut", "put", "repeat"])):
            case "change" if at < len(body):
                body[at] = draw(st.integers(0, 255))
            case "cut":
                del body[at : at + draw(st.integers(1, 10))]
            case "put":
                body[at:at] = draw(st.binary(min_size=1, max_size=8) | st.sampled_from(WEIRD_VALUES[:40]))
            case _:
                body[at:at] = body[: draw(st.integers(0, 30))]
    return bytes(body)


def bodies(target: Target) -> st.SearchStrategy[bytes]:
    """Mostly bad ones; what is good by chance is served and charged."""
    return st.one_of(
        _with_strange_fields(target),
        _mutated(target),
        st.sampled_from(WEIRD_VALUES),
        st.binary(max_size=200),
        _json.map(lambda value: json.dumps(value).encode()),
        st.just(json.dumps(target.body).encode("utf-16")),
        st.just(b"\xef\xbb\xbf" + json.dumps(target.body).encode()),
        st.sampled_from([b" " * 2**20 + b"{}", b'{"model":"' + b"a" * 1_100_000, b"[" * 1_048_576]),
    )


def bomb(size: int) -> bytes:
    """So many bytes of JSON, in a thousandth of them."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packed.compress(b'{"model":"' + b"a" * size + b'"}') + packed.flush()


BOMB = bomb(64 * 2**20)
