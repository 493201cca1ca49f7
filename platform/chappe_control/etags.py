"""ETag and If-Match: who changes something changes what they have seen, or is told that it is another thing by now.

A tag is a digest of the representation, so it needs no column, and two processes agree on it. The check belongs into
the transaction that writes, after the row was read `FOR UPDATE`: two callers with the same tag otherwise both pass.

    async with services.database.tenant(scope, origin_of(request)) as session:
        check_match(request, show_key(await queries.lock_key(session, scope, key_id)))
        view = show_key(await service.change_key(session, scope, key_id, …))
    return with_etag(view)
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

import msgspec
from litestar import Request, Response
from litestar.datastructures import ResponseHeader
from litestar.params import HeaderParameter
from msgspec import Struct

from chappe_kernel.errors import Invalid, Stale, Unconditional

T = TypeVar("T", bound=Struct)

IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="The `ETag` of what you have seen: without one the answer is 428, with a stale one 412. `*` "
        "changes it whatever it is by now.",
    ),
]
"""For a handler's signature, so that the OpenAPI document has it. `check_match` reads the request itself."""

ETAG_HEADER = ResponseHeader(
    name="ETag",
    description="Names this state of the resource; send it as `If-Match` with what changes it.",
    documentation_only=True,
    required=True,
    example='"o1HXYzcWfZQ0ePyV3Rn1Tw"',
)
"""For the `response_headers` of a handler that answers with a tag."""

_DIGEST_BYTES = 16
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LIST = re.compile(rf"[ \t]*{_TAG.pattern}(?:[ \t]*,[ \t]*{_TAG.pattern})*[ \t]*")


def etag_of(view: Struct, *, ignoring: Iterable[str] = ()) -> str:
    """A strong validator (RFC 9110, 8.8.3) of what `view` shows, quotes included.

    `ignoring` names fields that change by themselves, such as a key's last use: a key in use would otherwise have
    another tag every minute, and nobody could change it any more.
    """
    shown: dict[str, Any] = msgspec.to_builtins(view)
    for field in ignoring:
        del shown[field]
    digest = hashlib.sha256(msgspec.json.encode(shown, order="sorted")).digest()[:_DIGEST_BYTES]
    return f'"{base64.urlsafe_b64encode(digest).decode().rstrip("=")}"'


def with_etag(view: T, *, ignoring: Iterable[str] = (), status_code: int | None = None) -> Response[T]:
    """`view` as an answer that carries its tag, with the route's own status unless another is given."""
    return Response(view, headers={"etag": etag_of(view, ignoring=ignoring)}, status_code=status_code)


def check_match(request: Request[Any, Any, Any], present: Struct, *, ignoring: Iterable[str] = ()) -> None:
    """Raises `Unconditional` for a request without `If-Match`, `Stale` for one that names no present tag, `Invalid`
    for what is no list of tags. A weak tag never matches (RFC 9110, 13.1.1)."""
    values = request.headers.getall("if-match", [])
    if not values:
        raise Unconditional("send the ETag of what you have seen as If-Match", param="If-Match")
    # Several headers of this name are one list (RFC 9110, 5.3).
    text = ", ".join(values)
    if text.strip() == "*":
        return
    if not _LIST.fullmatch(text):
        raise Invalid("If-Match must be * or a list of tags in quotes", param="If-Match")
    if etag_of(present, ignoring=ignoring) not in _TAG.findall(text):
        raise Stale("this has changed since you read it; read it again", param="If-Match")
