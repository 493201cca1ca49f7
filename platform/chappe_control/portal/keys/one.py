"""`/keys/{key_id}`: what one key may do, to be changed, and its successor."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from litestar.response import Redirect
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.etags import etag_of
from chappe_control.idempotency import service as idempotency
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission, check_permission
from chappe_control.portal.choices import read_allowed_regions, read_chosen, read_end, read_networks
from chappe_control.portal.keys.routes import show_made
from chappe_control.portal.keys.service import check_models, offer, read_models_on_sale
from chappe_control.state import Given, Services
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import KEY, KeyId, ProjectId, ServiceAccountId, decode_id, encode_id, new_id
from chappe_store.session import TenantScope
from chappe_tenants.api_keys import service as api_keys
from chappe_tenants.api_keys.queries import KeyRecord
from chappe_tenants.api_keys.schemas import CHANGES_WITH_USE, show_key
from chappe_tenants.api_keys.service import KeyChange
from chappe_tenants.projects.models import Project
from chappe_tenants.projects.service import get_project
from chappe_tenants.service_accounts.models import ServiceAccount
from chappe_tenants.service_accounts.queries import read_service_account
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]
KeyPath = Annotated[str, PathParameter()]

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_PROBLEMS = {
    "name": N_("Give the key a name of 1 to 100 characters, without control characters."),
    "regions": N_("Choose regions that your organisation allows."),
    "models": N_("Choose models that are on sale."),
    "networks": N_("Write networks like 192.0.2.0/24 or 2001:db8::/32, one a line."),
    "expires_at": N_("Choose a day in the next ten years, or none."),
}
_CHANGED_MEANWHILE = N_("Somebody has changed this key meanwhile. Here is how it is now.")
_OVERLAPS = {
    "0": timedelta(0),
    "3600": timedelta(hours=1),
    "86400": timedelta(days=1),
    "604800": timedelta(days=7),
    "2592000": timedelta(days=30),
}


class KeyPage(Struct, frozen=True):
    """A key and whose it is. `service_account` is None for every other key, and when it is removed."""

    key: KeyRecord
    project: Project
    service_account: ServiceAccount | None
    regions: dict[str, str]
    models: list[str]


@get("/keys/{key_id:str}", include_in_schema=False, permission=Permission.READ_KEYS)
async def show_key_page(request: MemberRequest, services: Given, key_id: KeyPath) -> Response[bytes]:
    return await _show(request, services, _key_id(key_id))


@post("/keys/{key_id:str}", include_in_schema=False, permission=Permission.MANAGE_KEYS)
async def change_key(request: MemberRequest, services: Given, key_id: KeyPath) -> Response[Any]:
    """Who sends the form changes what they saw: with another tag nothing is changed."""
    scope, wanted = request.auth.scope, _key_id(key_id)
    fields = await read_fields(request, "name", "networks", "expires_at", "seen")
    try:
        async with services.database.tenant(scope, origin_of(request)) as session:
            key = await api_keys.lock_key(session, scope, wanted)
            _check_kind(request.auth, key)
            if _tag(key) != fields["seen"]:
                return _back(wanted, translate(request, _CHANGED_MEANWHILE), "yellow")
            change = await _read_change(request, session, key, fields)
            jurisdiction_of = await read_jurisdictions(session)
            await api_keys.change_key(session, scope, key, change, jurisdiction_of=jurisdiction_of)
    except Conflict:
        return _back(wanted, translate(request, N_("This key is over and stays as it was.")), "yellow")
    except Invalid as error:
        name = error.param if error.param in _PROBLEMS else "name"
        form = Form(fields, {name: translate(request, _PROBLEMS[name])})
        return await _show(request, services, wanted, form=form, status=HTTPStatus.BAD_REQUEST)
    return _back(wanted, translate(request, N_("The key is changed.")), "green")


@post("/keys/{key_id:str}/rotate", include_in_schema=False, permission=Permission.MANAGE_KEYS)
async def rotate_key(request: MemberRequest, services: Given, key_id: KeyPath) -> Response[Any]:
    """The answer is the only place where the successor's secret ever is, as with a new key."""
    scope, wanted = request.auth.scope, _key_id(key_id)
    fields = await read_fields(request, "overlap", "form_id")
    try:
        call = idempotency.read_call("POST /keys/rotate of the portal", fields["form_id"] or None, await request.body())
        async with services.database.tenant(scope, origin_of(request)) as session:
            _check_kind(request.auth, await api_keys.get_key(session, scope, wanted))
            await idempotency.begin(session, scope, call)
            overlap = _OVERLAPS.get(fields["overlap"], _OVERLAPS["86400"])
            key, secret = await api_keys.rotate_key(
                session, scope, wanted, overlap=overlap, by=request.auth.member_id, peppers=services.peppers
            )
            made = await offer(session, scope, key, secret)
    except Conflict as error:
        text = _ROTATION_PROBLEMS.get(error.code, N_("This key is over and stays as it was."))
        return _back(wanted, translate(request, text), "yellow")
    return show_made(request, services, made)


_ROTATION_PROBLEMS = {
    "already_completed": N_("This key exists already. Its secret was shown once and cannot be shown again."),
    "idempotency_key_reused": N_("This form was sent before. Please check it and send it again."),
    "key_rotated": N_("This key has a successor already. Rotate that one."),
    "too_many_keys": N_(
        "Your organisation has as many active keys as it may have. Revoke one that is not used any more."
    ),
    "project_archived": N_("The project is archived: restore it first."),
}


async def _show(
    request: MemberRequest,
    services: Services,
    key_id: KeyId,
    *,
    form: Form | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        found = await _read(session, scope, key_id)
    return page(
        request,
        "portal/key.html",
        status=status,
        found=found,
        form=form or _as_it_is(found.key),
        seen=_tag(found.key),
        now=services.clock.now(),
        mine=found.key.member_id == request.auth.member_id,
        region_options=[(name, f"{name} ({law})") for name, law in found.regions.items()],
        model_options=[(name, name) for name in found.models],
        form_id=new_id().hex,
    )


async def _read(session: AsyncSession, scope: TenantScope, key_id: KeyId) -> KeyPage:
    key = await api_keys.get_key(session, scope, key_id)
    account = None
    if key.service_account_id is not None:
        account = await read_service_account(session, scope, ServiceAccountId(key.service_account_id))
    # What it is narrowed to and could not be today stays ticked: else saving the form would widen it unseen.
    regions = await read_allowed_regions(session, scope)
    models = await read_models_on_sale(session)
    return KeyPage(
        key=key,
        project=await get_project(session, scope, ProjectId(key.project_id)),
        service_account=account,
        regions={name: regions.get(name, name) for name in dict.fromkeys([*regions, *(key.regions or ())])},
        models=list(dict.fromkeys([*models, *(key.models or ())])),
    )


async def _read_change(
    request: MemberRequest, session: AsyncSession, key: KeyRecord, fields: dict[str, str]
) -> KeyChange:
    """What differs from the key as it is: so an end of an hour that the form cannot show is kept."""
    regions, models = await read_chosen(request, "regions"), await read_chosen(request, "models")
    wanted = KeyChange(
        name=fields["name"],
        regions=regions or None,
        models=models or None,
        networks=read_networks(fields["networks"]),
        expires_at=key.expires_at if fields["expires_at"] == _day(key) else read_end(fields["expires_at"]),
    )
    changed = {
        name: getattr(wanted, name)
        for name in ("name", "regions", "models", "networks", "expires_at")
        if _plain(getattr(wanted, name)) != _plain(getattr(key, name))
    }
    await check_models(session, changed.get("models"))
    return KeyChange(**changed)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_it_is(key: KeyRecord) -> Form:
    return Form({"name": key.name, "networks": "\n".join(key.networks or ()), "expires_at": _day(key)})


def _day(key: KeyRecord) -> str:
    return key.expires_at.date().isoformat() if key.expires_at else ""


def _tag(key: KeyRecord) -> str:
    return etag_of(show_key(key), ignoring=CHANGES_WITH_USE)


def _check_kind(visitor: MemberVisitor, key: KeyRecord) -> None:
    if key.kind == KeyKind.MANAGEMENT:
        check_permission(visitor, Permission.MANAGE_MANAGEMENT_KEYS)


def _key_id(text: str) -> KeyId:
    try:
        return KeyId(decode_id(KEY, text))
    except Invalid:
        raise NotFound("no such API key") from None


def _back(key_id: KeyId, text: str, colour: str) -> Response[Any]:
    response = Redirect(f"/keys/{encode_id(KEY, key_id)}", status_code=_SEE_OTHER)
    flash(response, text, colour)
    return response
