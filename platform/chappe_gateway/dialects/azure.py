"""Azure OpenAI's paths: `/openai/deployments/{model}/…?api-version=…`, and `/openai/v1/…` which is `/v1/…`.

The path's deployment is the model, whatever the body's `model` says: as in Azure's own API.
"""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from chappe_gateway.dialects import chat, completions, embeddings, models, responses
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import unknown_path
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import Invalid

PATH = "/openai"
_VERSION_PARAM = "api-version"
# A catalogue's names have no other characters; what stands here may come back in a `location` header.
_DEPLOYMENT = re.compile(r"/deployments/([a-z0-9._-]{1,100})(/chat/completions|/completions|/embeddings)/?\Z")
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?\Z")
_UNDATED = ("v1", "preview", "latest")

_ServeAt = Callable[[Gateway, Call, str, str | None], Awaitable[None]]
_TASKS: dict[str, _ServeAt] = {
    "/chat/completions": chat.serve_chat,
    "/completions": completions.serve_completions,
    "/embeddings": embeddings.serve_embeddings,
}


async def serve_azure(gateway: Gateway, call: Call) -> None:
    """What stands below `/openai`. Raises what the client is to be told."""
    path = call.path
    if path.startswith("/v1/models"):
        call.path = path.removeprefix("/v1/models") or "/"
        await models.serve_models(gateway, call)
    elif path == "/v1/responses" or path.startswith("/v1/responses/"):
        _check_version(call.query, is_required=False)
        await responses.serve_response_at(gateway, call, path.removeprefix("/v1/responses"), PATH + "/v1/responses")
    elif path.startswith("/v1/") and (serve := _TASKS.get(path.removeprefix("/v1").rstrip("/"))) is not None:
        _check_version(call.query, is_required=False)
        await serve(gateway, call, PATH + path.rstrip("/"), None)
    elif (found := _DEPLOYMENT.match(path)) is not None:
        version = _check_version(call.query, is_required=True)
        here = f"{PATH}/deployments/{found[1]}{found[2]}?{_VERSION_PARAM}={version}"
        await _TASKS[found[2]](gateway, call, here, found[1])
    else:
        raise unknown_path()


def _check_version(query: bytes, *, is_required: bool) -> str:
    """Every version is answered alike: what a newer one adds and this API lacks is refused by its own name."""
    versions = parse_qs(query.decode("latin-1")).get(_VERSION_PARAM, [])
    if not versions and not is_required:
        return ""
    if not versions:
        raise Invalid(
            f"`{_VERSION_PARAM}` is missing in the query", code="missing_required_parameter", param=_VERSION_PARAM
        )
    version = versions[-1]
    if not _DATED.match(version) and version not in _UNDATED:
        raise Invalid(
            f"`{_VERSION_PARAM}` must be a date such as 2024-10-21, or v1", code="invalid_value", param=_VERSION_PARAM
        )
    return version
