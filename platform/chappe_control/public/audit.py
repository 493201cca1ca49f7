"""The calling tenant's part of the audit log."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get
from msgspec import Meta, Struct

from chappe_control.authentication import TenantRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Cursor, Limit
from chappe_control.state import Given
from chappe_kernel.ids import (
    AUDIT_ENTRY,
    INVITATION,
    KEY,
    LEDGER_TRANSACTION,
    MEMBER,
    PROJECT,
    QUOTA,
    QUOTA_RAISE,
    REQUEST,
    SERVICE_ACCOUNT,
    TENANT,
    encode_id,
)
from chappe_store.audit_log import queries
from chappe_store.audit_log.origin import ActorKind
from chappe_store.audit_log.queries import ListedEntry

# How the API writes the ids of what a tenant can see changed.
_PREFIXES = {
    "tenant": TENANT,
    "budget": TENANT,
    "project": PROJECT,
    "api_key": KEY,
    "service_account": SERVICE_ACCOUNT,
    "member": MEMBER,
    "invitation": INVITATION,
    "ledger_transaction": LEDGER_TRANSACTION,
    "quota": QUOTA,
    "quota_raise": QUOTA_RAISE,
}
_OWN_ACTORS = {ActorKind.MEMBER: MEMBER, ActorKind.SIGN_UP: MEMBER, ActorKind.MANAGEMENT_KEY: KEY}


class ActorView(Struct, frozen=True):
    kind: Annotated[
        str,
        Meta(
            description="`member`, `sign_up`, `management_key`, `reseller` for your reseller's people and programs, "
            "`leak_report` for whoever had found a key's text and reported it, or `operator` for the operator's."
        ),
    ]
    id: Annotated[str | None, Meta(description="Of a sign-up the member that it made. Null for others than your own.")]
    address: Annotated[
        str | None, Meta(description="The address that the call came from. Null for others than your own.")
    ]


class AuditEntryView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^aud_")]
    recorded_at: datetime
    actor: ActorView
    request_id: Annotated[str | None, Meta(description="As in the answer's `x-request-id`.")]
    action: Annotated[str, Meta(description="`created`, `changed` or `removed`.")]
    noun: Annotated[str, Meta(description="What kind of thing: `api_key`, `project`, `member`, …")]
    subject: Annotated[str, Meta(description="Its id.")]
    before: Annotated[dict[str, Any] | None, Meta(description="The fields that changed, as they were.")]
    after: Annotated[
        dict[str, Any] | None,
        Meta(description="The fields that changed, as they are; `withheld` in place of a secret."),
    ]


class AuditEntryList(Struct, frozen=True):
    items: list[AuditEntryView]
    next_cursor: str | None


@get(
    "/audit",
    permission=Permission.READ_AUDIT_LOG,
    tags=["Audit"],
    summary="List the audit log",
    operation_id="list_audit_entries",
    responses=answers.LIST,
)
async def list_entries(
    request: TenantRequest, services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> AuditEntryList:
    """Every change of the organisation's own things, newest first: by whom, from where and when. New entries never
    shift the pages that follow."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        rows = await queries.list_entries(session, scope, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda entry: entry.id)
    return AuditEntryList(items=[_show(entry) for entry in page], next_cursor=next_cursor)


def _show(entry: ListedEntry) -> AuditEntryView:
    prefix = _PREFIXES.get(entry.noun)
    return AuditEntryView(
        id=encode_id(AUDIT_ENTRY, entry.id),
        recorded_at=entry.recorded_at,
        actor=_show_actor(entry),
        request_id=None if entry.request_id is None else encode_id(REQUEST, entry.request_id),
        action=entry.action,
        noun=entry.noun,
        subject=entry.subject if prefix is None else encode_id(prefix, UUID(entry.subject)),
        before=msgspec.json.decode(entry.before),
        after=msgspec.json.decode(entry.after),
    )


def _show_actor(entry: ListedEntry) -> ActorView:
    """The operator's people and machines are the operator's to know, a reseller's the reseller's, and so is who
    reported a leak."""
    for kind, prefix in _OWN_ACTORS.items():
        if entry.actor_kind == kind:
            return ActorView(kind=kind, id=encode_id(prefix, UUID(entry.actor)), address=entry.address)
    told = entry.actor_kind if entry.actor_kind in {ActorKind.RESELLER, ActorKind.LEAK_REPORT} else "operator"
    return ActorView(kind=told, id=None, address=None)
