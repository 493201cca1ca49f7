"""GET /v1/models: what this key may use in this region, and nothing else, as OpenAI tells it or as Anthropic."""

import msgspec

from chappe_gateway.access.rights import Visitor, may_use
from chappe_gateway.admission import identify
from chappe_gateway.dialects.messages import check_version, speak_messages
from chappe_gateway.dialects.messages_models import messages_model, messages_page, wants_messages_form
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import unknown_path
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import NotFound
from chappe_kernel.wire.control import Listing

PATH = "/v1/models"


class _Capabilities(msgspec.Struct):
    completion_chat: bool
    completion_fim: bool = False
    function_calling: bool = False
    fine_tuning: bool = False
    vision: bool = False
    classification: bool = False


class _Model(msgspec.Struct):
    """OpenAI's model; Mistral's package wants the rest as well."""

    id: str
    created: int
    owned_by: str
    capabilities: _Capabilities
    max_context_length: int
    object: str = "model"
    type: str = "base"


class _ModelList(msgspec.Struct):
    data: list[_Model]
    object: str = "list"


async def serve_models(gateway: Gateway, call: Call) -> None:
    """All models, or the one that the path names. Raises what the client is to be told."""
    is_messages = wants_messages_form(call.headers)
    if is_messages:
        speak_messages(call)
    call.expect_method("GET")
    if not call.path.startswith("/"):
        # The router's mount also takes `/v1/modelsx`.
        raise unknown_path()
    name = call.path.strip("/")
    if name:
        await _serve_model(gateway, call, name, is_messages=is_messages)
    else:
        await _serve_list(gateway, call, is_messages=is_messages)


async def _serve_list(gateway: Gateway, call: Call, *, is_messages: bool) -> None:
    visitor = await identify(gateway, call, PATH, needs_engine=False)
    offered = [listing for listing in visitor.view.listings.values() if _is_offered(visitor, listing)]
    if is_messages:
        check_version(call.headers)
        body = messages_page([listing for listing in offered if listing.task == "chat"], call.query)
    else:
        body = msgspec.json.encode(_ModelList([_model(gateway, listing) for listing in offered]))
    await call.respond(200, [], body)


async def _serve_model(gateway: Gateway, call: Call, name: str, *, is_messages: bool) -> None:
    # The name is part of a header when the request belongs elsewhere: only one that exists is repeated there.
    known = name in gateway.snapshots.view().listings
    visitor = await identify(gateway, call, f"{PATH}/{name}" if known else PATH, needs_engine=False)
    listing = visitor.view.listings.get(name)
    if listing is None or not _is_offered(visitor, listing):
        raise NotFound(
            "this model does not exist here, or this key may not use it", code="model_not_found", param="model"
        )
    if is_messages:
        check_version(call.headers)
    await call.respond(
        200, [], messages_model(listing) if is_messages else msgspec.json.encode(_model(gateway, listing))
    )


def _is_offered(visitor: Visitor, listing: Listing) -> bool:
    return listing.name in visitor.view.prices_here and may_use(visitor, listing)


def _model(gateway: Gateway, listing: Listing) -> _Model:
    calls = gateway.health.has_feature(listing.name, "tools")
    can = _Capabilities(completion_chat=listing.task == "chat", function_calling=calls)
    return _Model(listing.name, listing.created, listing.publisher, can, listing.context_tokens)
