"""Of whom a call is, and from where: what the audit log says of the changes that it makes."""

from collections.abc import Iterable
from typing import Any, assert_never
from uuid import UUID

import msgspec
from litestar.connection import ASGIConnection
from litestar.types import Scope
from msgspec import Struct

from chappe_kernel.ids import REQUEST, encode_id, new_id
from chappe_store.audit_log.origin import ActorKind, Origin
from chappe_tenants.api_keys.service import Caller
from chappe_tenants.operator_tokens.service import OperatorCaller
from chappe_tenants.sessions.service import MemberVisitor, OperatorVisitor

_REQUEST_ID = "chappe_request_id"

_Connection = ASGIConnection[Any, Any, Any, Any]


class CallSource(Struct, frozen=True):
    """Where a call comes from, before it is known whose it is: at a sign-in that takes a password. As in `Origin`."""

    address: str | None
    request_id: UUID

    def origin(self, kind: ActorKind, actor: UUID | str) -> Origin:
        return Origin(kind, str(actor), self.address, self.request_id)


def origin_of(connection: _Connection) -> Origin:
    """By what the guard found, never by what a header claims: a key, a token, a region, or who is signed in."""
    found: Caller | MemberVisitor | OperatorVisitor | OperatorCaller | str = connection.auth
    source = source_of(connection)
    match found:
        case str():
            return source.origin(ActorKind.REGION, found)
        case Caller():
            return source.origin(ActorKind.MANAGEMENT_KEY, found.key_id)
        case MemberVisitor():
            return source.origin(ActorKind.MEMBER, found.member_id)
        case OperatorVisitor():
            return source.origin(ActorKind.OPERATOR_USER, found.user_id)
        case OperatorCaller():
            return source.origin(ActorKind.OPERATOR_TOKEN, found.token_id)
        case _:
            assert_never(found)


def reseller_origin_of(connection: _Connection) -> Origin:
    """Of a call that changes a customer of the caller's: the customer's log does not name another tenant's people."""
    return msgspec.structs.replace(origin_of(connection), kind=ActorKind.RESELLER)


def source_of(connection: _Connection) -> CallSource:
    """From the connection's address, which is the proxy's client's behind a trusted one."""
    address = connection.client.host if connection.client else None
    return CallSource(address, _request_id(connection.scope))


def request_id_header(scope: Scope) -> Iterable[tuple[bytes, bytes]]:
    """`x-request-id` of a call that may have changed something, so that its caller finds it in the audit log."""
    request_id = scope["state"].get(_REQUEST_ID)
    if request_id is not None:
        yield b"x-request-id", encode_id(REQUEST, request_id).encode()


def _request_id(scope: Scope) -> UUID:
    """Ours, made when it is first asked for. A client's own would let it name another's."""
    found: UUID = scope["state"].setdefault(_REQUEST_ID, new_id())
    return found
