"""Forms that make something, sent twice: the page gives each form a token, and what came with it is made once."""

import hashlib
from collections.abc import Mapping

import msgspec

from chappe_control.console.rendering import ConsoleRequest
from chappe_control.idempotency.service import Call, read_call
from chappe_kernel.ids import new_id

ONCE = "once"
"""The field with the token."""


def new_token() -> str:
    return new_id().hex


def call_of_form(request: ConsoleRequest, typed: Mapping[str, str]) -> Call | None:
    """As an `Idempotency-Key` would name it. What was typed is part of the key: who goes back, changes something and
    sends again wants another thing. None for a form without a token."""
    if not typed[ONCE]:
        return None
    said = msgspec.json.encode(dict(sorted(typed.items())), order="sorted")
    route = f"{request.method} {request.scope['path_template']}"
    return read_call(route, hashlib.sha256(request.scope["raw_path"] + b"\n" + said).hexdigest(), said)
