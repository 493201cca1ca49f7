"""How a request finds what is kept: whose it is, and in which region.

An id names its region, `file_…_fr-par`, so that a gateway elsewhere can say where it is without asking anybody.
"""

from uuid import UUID

from chappe_gateway.access.rights import Visitor
from chappe_gateway.admission import identify
from chappe_gateway.content.objects import Kind, Name, Owner
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import WrongRegion
from chappe_gateway.gateway import Gateway
from chappe_gateway.limits.repeats import read_key
from chappe_kernel.errors import Denied, Invalid, NotFound
from chappe_kernel.ids import decode_id, encode_id

_PREFIXES = {Kind.RESPONSE: "resp", Kind.FILE: "file", Kind.BATCH: "batch"}
_ID_CHARACTERS = 26


def public_id(kind: Kind, object_id: UUID, region: str) -> str:
    """As clients see it."""
    return f"{encode_id(_PREFIXES[kind], object_id)}_{region}"


def read_id(kind: Kind, text: str) -> tuple[UUID, str] | None:
    """The object and its region; None for what is no such id."""
    length = len(_PREFIXES[kind]) + 1 + _ID_CHARACTERS
    try:
        object_id = decode_id(_PREFIXES[kind], text[:length])
    except Invalid:
        return None
    return (object_id, text[length + 1 :]) if text[length : length + 1] == "_" else None


async def visit(gateway: Gateway, call: Call, path: str) -> Visitor:
    """Who asks for what is kept. It counts as a request, and costs nothing. Raises what `identify` does, and
    `LimitExceeded`."""
    visitor = await identify(gateway, call, path, needs_engine=False)
    taken = await gateway.limiter.admit(visitor.facts.limits, model="")
    call.extra_headers = taken.headers
    return visitor


def expect_no_repeat_key(call: Call) -> None:
    """What is made here has no memory of keys. Raises `Invalid` rather than make it twice."""
    if read_key(call.headers) is not None:
        param = "Idempotency-Key"
        raise Invalid(f"`{param}` is not supported here", code="unsupported_parameter", param=param)


async def find_name(gateway: Gateway, call: Call, kind: Kind, text: str, path: str) -> Name:
    """What the id in the path names, as far as this key may see it; `path` is where its kind is found.

    Raises what `visit` does, `NotFound`, and `WrongRegion` when it is kept in another region that the key may use."""
    here = f"{path}/{text}" if read_id(kind, text) is not None and text.isascii() else path
    visitor = await visit(gateway, call, here)
    return locate(gateway, visitor, kind, text, here)


def locate(gateway: Gateway, visitor: Visitor, kind: Kind, text: str, path: str, *, param: str | None = None) -> Name:
    """As `find_name`, for a visitor who was identified; `path` is where to go on in the right region."""
    found = read_id(kind, text)
    if found is None:
        raise no_such(kind, param)
    object_id, region = found
    if region != gateway.settings.region:
        if region not in visitor.allowed or region not in visitor.view.regions:
            raise no_such(kind, param)
        url = visitor.view.regions[region].gateway_url.rstrip("/")
        raise WrongRegion(f"this {kind} is kept in {region}; ask {url}{path} for it", location=url + path)
    return Name(owner_of(visitor), kind, object_id)


def owner_of(visitor: Visitor) -> Owner:
    return Owner(visitor.facts.tenant_id, visitor.facts.project_id)


def kept_for(visitor: Visitor) -> float:
    """How many seconds what is made now is kept. Raises `Denied` where nothing is."""
    kept_for_s = visitor.facts.content_kept_for_s
    if kept_for_s <= 0:
        raise Denied(
            "the organisation lets its regions keep no content; see content_kept_for_s of its settings",
            code="content_not_kept",
        )
    return kept_for_s


def no_such(kind: Kind, param: str | None = None) -> NotFound:
    """The same for what never was, what is gone, and what is another's."""
    return NotFound(f"there is no such {kind}", code=f"{kind}_not_found", param=param)
