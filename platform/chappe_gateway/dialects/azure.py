"""Azure OpenAI's paths: `/openai/deployments/{model}/…?api-version=…`, what belongs to no deployment as
`/openai/files?api-version=…`, and `/openai/v1/…` which is `/v1/…`.

The path's deployment is the model, whatever the body's `model` says: as in Azure's own API.
"""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from chappe_gateway.batches import routes as batches
from chappe_gateway.dialects import chat, completions, embeddings, models, responses
from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import unknown_path
from chappe_gateway.files import routes as files
from chappe_gateway.gateway import Gateway
from chappe_kernel.errors import Invalid

PATH = "/openai"
_VERSION_PARAM = "api-version"
# A catalogue's names have no other characters; what stands here may come back in a `location` header.
_DEPLOYMENT = re.compile(r"/deployments/([a-z0-9._-]{1,100})(/chat/completions|/completions|/embeddings)/?\Z")
_API = re.compile(r"(/v1)?/([a-z]+)(/.*)?\Z", re.DOTALL)
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?\Z")
_UNDATED = ("v1", "preview", "latest")

_ServeAt = Callable[[Gateway, Call, str, str | None], Awaitable[None]]
_TASKS: dict[str, _ServeAt] = {
    "/chat/completions": chat.serve_chat,
    "/completions": completions.serve_completions,
    "/embeddings": embeddings.serve_embeddings,
}


# The mounts of these take what stands below them.
_APIS: dict[str, Callable[[Gateway, Call], Awaitable[None]]] = {
    "files": files.serve_files,
    "batches": batches.serve_batches,
    "models": models.serve_models,
    "responses": responses.serve_responses,
}


async def serve_azure(gateway: Gateway, call: Call) -> None:
    """What stands below `/openai`. Raises what the client is to be told."""
    path = call.path
    if (found := _API.match(path)) is not None and found[2] in _APIS:
        _check_version(call.query, is_required=found[1] is None)
        call.path = found[3] or "/"
        await _APIS[found[2]](gateway, call)
    elif path.startswith("/v1/") and (serve := _TASKS.get(path.removeprefix("/v1").rstrip("/"))) is not None:
        _check_version(call.query, is_required=False)
        await serve(gateway, call, PATH + path.rstrip("/"), None)
    elif (deployed := _DEPLOYMENT.match(path)) is not None:
        version = _check_version(call.query, is_required=True)
        here = f"{PATH}/deployments/{deployed[1]}{deployed[2]}?{_VERSION_PARAM}={version}"
        await _TASKS[deployed[2]](gateway, call, here, deployed[1])
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
