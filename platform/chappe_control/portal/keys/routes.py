"""`/keys`: the list, a new key that is shown once, and the end of one."""

from http import HTTPStatus
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import PathParameter
from litestar.response import Redirect
from msgspec import Struct

from chappe_control.cursors import decode_cursor
from chappe_control.idempotency.service import read_call
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.languages import N_, translate
from chappe_control.pages.render import page
from chappe_control.permissions import Permission, check_permission
from chappe_control.portal.acknowledgement import read_acknowledgement
from chappe_control.portal.choices import read_chosen, read_end, read_networks
from chappe_control.portal.keys.service import KeysPage, MadeKey, make_key, read_keys
from chappe_control.portal.keys.snippets import inference_snippets, management_snippets
from chappe_control.state import Given, Services
from chappe_kernel.api_keys import KeyKind
from chappe_kernel.errors import Conflict, Invalid, NotFound
from chappe_kernel.ids import KEY, PROJECT, SERVICE_ACCOUNT, KeyId, ProjectId, ServiceAccountId, decode_id, new_id
from chappe_tenants.api_keys import service as api_keys
from chappe_tenants.api_keys.service import KeyOrder
from chappe_tenants.sessions.service import MemberVisitor

MemberRequest = Request[Any, MemberVisitor, State]

# The framework's type wants the numbers themselves.
_SEE_OTHER: Final = 303
_TYPED = ("name", "kind", "project", "owner", "networks", "expires_at")
ME = "me"
"""As the owner of a key: whoever makes it. Nobody named: the project."""

_PROBLEMS = {
    "name": N_("Give the key a name of 1 to 100 characters, without control characters."),
    "kind": N_("Choose what the key is for."),
    # The field is there only when there is something to choose.
    WHOLE_FORM: N_("Choose one of your projects."),
    "regions": N_("Choose regions that your organisation allows."),
    "models": N_("Choose models that are on sale."),
    "networks": N_("Write networks like 192.0.2.0/24 or 2001:db8::/32, one a line."),
    "expires_at": N_("Choose a day in the next ten years, or none."),
    "owner": N_("Choose whose key it is."),
}
# What the services call it, and which field of the form it is.
_FIELDS = {"project": WHOLE_FORM, "project_id": WHOLE_FORM, "service_account_id": "owner"}
_TOO_MANY = N_("Your organisation has as many active keys as it may have. Revoke one that is not used any more.")
_ARCHIVED = N_("The project is archived: restore it first.")
_SENT_BEFORE = N_("This form was sent before. Please check it and send it again.")
_SHOWN_BEFORE = N_("This key exists already. Its secret was shown once and cannot be shown again.")


class KeyForm(Struct, frozen=True):
    """What was posted. `form_id` is the page's own number for the form: sent twice, it makes one key."""

    name: str
    kind: str
    project: str
    form_id: str
    owner: str = ""
    networks: str = ""
    expires_at: str = ""
    regions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@get("/keys", include_in_schema=False, permission=Permission.READ_KEYS)
async def list_keys(request: MemberRequest, services: Given) -> Response[bytes]:
    return await _keys(request, services, await _read(request, services))


@post("/keys", include_in_schema=False, permission=Permission.MANAGE_KEYS)
async def create_key(request: MemberRequest, services: Given) -> Response[Any]:
    """The answer is the only place where the secret ever is: in no address, no cookie, no log, and not stored."""
    posted = await _read_form(request)
    try:
        order, project_id = _order(posted, request.auth)
        if order.kind is KeyKind.MANAGEMENT:
            check_permission(request.auth, Permission.MANAGE_MANAGEMENT_KEYS)
        call = read_call("POST /keys of the portal", posted.form_id or None, await request.body())
        async with services.database.tenant(request.auth.scope, origin_of(request)) as session:
            made = await make_key(session, request.auth.scope, project_id, order, call, peppers=services.peppers)
    except Conflict as error:
        if error.code == "already_completed":
            return _back(request, translate(request, _SHOWN_BEFORE), "yellow")
        text = {"too_many_keys": _TOO_MANY, "project_archived": _ARCHIVED}.get(error.code, _SENT_BEFORE)
        return await _refuse(request, services, posted, {WHOLE_FORM: text}, HTTPStatus.CONFLICT)
    except (Invalid, NotFound) as error:
        # Another organisation's project is not found; it is the form that is wrong, not the address.
        name = _FIELDS.get(error.param or "name", error.param or "name")
        return await _refuse(request, services, posted, {name: _PROBLEMS[name]}, HTTPStatus.BAD_REQUEST)
    return show_made(request, services, made)


@post("/keys/{key_id:str}/revoke", include_in_schema=False, permission=Permission.MANAGE_KEYS)
async def revoke_key(request: MemberRequest, services: Given, key_id: Annotated[str, PathParameter()]) -> Response[Any]:
    """Safe to repeat."""
    try:
        wanted = KeyId(decode_id(KEY, key_id))
    except Invalid:
        raise NotFound("no such API key") from None
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        await api_keys.revoke_key(session, scope, wanted)
        key = await api_keys.get_key(session, scope, wanted)
    return _back(request, translate(request, N_("The key “%(name)s” is revoked."), name=key.name), "green")


def _back(request: MemberRequest, text: str, colour: str) -> Response[Any]:
    response = Redirect("/keys", status_code=_SEE_OTHER)
    flash(response, text, colour)
    return response


def show_made(request: MemberRequest, services: Services, made: MadeKey) -> Response[bytes]:
    if made.key.kind == KeyKind.MANAGEMENT:
        snippets = [("", management_snippets(services.settings.portal_url, made.secret))]
    else:
        snippets = [(offer.region, inference_snippets(offer, made.secret)) for offer in made.offers]
    return page(
        request,
        "portal/key_created.html",
        status=HTTPStatus.CREATED,
        headers={"cache-control": "no-store"},
        made=made,
        snippets=snippets,
    )


async def _read(request: MemberRequest, services: Services) -> KeysPage:
    """Raises `Invalid` for a cursor that is not one of ours."""
    before = decode_cursor(request.query_params.get("cursor"))
    async with services.database.tenant(request.auth.scope) as session:
        return await read_keys(session, request.auth.scope, before)


async def _refuse(
    request: MemberRequest, services: Services, posted: KeyForm, problems: dict[str, str], status: HTTPStatus
) -> Response[bytes]:
    """The form again, with what was typed and what is wrong with it."""
    values = {name: getattr(posted, name) for name in _TYPED}
    form = Form(values, {name: translate(request, text) for name, text in problems.items()})
    return await _keys(request, services, await _read(request, services), form=form, chosen=posted, status=status)


async def _keys(
    request: MemberRequest,
    services: Services,
    found: KeysPage,
    *,
    form: Form | None = None,
    chosen: KeyForm | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response[bytes]:
    welcome = "welcome" in request.query_params
    scope = request.auth.scope
    async with services.database.tenant_snapshot(scope) as session:
        acknowledgement = await read_acknowledgement(session, scope, services.settings.snapshot_max_age_s)
    return page(
        request,
        "portal/keys.html",
        status=status,
        found=found,
        acknowledgement=acknowledgement,
        welcome=welcome,
        form=form or Form(),
        # Open when it was asked for, when it has an error to show, and when there is nothing else to do here.
        form_is_open=welcome or form is not None or "new" in request.query_params or not found.keys,
        chosen_regions=chosen.regions if chosen else (),
        chosen_models=chosen.models if chosen else (),
        now=services.clock.now(),
        me=request.auth.member_id,
        region_options=[(name, f"{name} ({law})") for name, law in found.choices.regions.items()],
        model_options=[(name, name) for name in found.choices.models],
        form_id=new_id().hex,
    )


async def _read_form(request: MemberRequest) -> KeyForm:
    return KeyForm(
        **await read_fields(request, *_TYPED, "form_id"),
        regions=await read_chosen(request, "regions"),
        models=await read_chosen(request, "models"),
    )


def _order(posted: KeyForm, visitor: MemberVisitor) -> tuple[KeyOrder, ProjectId | None]:
    """Raises `Invalid` naming the field. No box ticked means that the key narrows nothing."""
    try:
        kind = KeyKind(posted.kind)
    except ValueError:
        raise Invalid("there is no such kind of key", param="kind") from None
    order = KeyOrder(
        name=posted.name,
        kind=kind,
        regions=posted.regions or None,
        models=posted.models or None,
        networks=read_networks(posted.networks),
        expires_at=read_end(posted.expires_at),
        member_id=visitor.member_id if posted.owner == ME else None,
        service_account_id=_service_account_id(posted.owner),
    )
    return order, _project_id(posted.project)


def _service_account_id(owner: str) -> ServiceAccountId | None:
    if owner in {"", ME}:
        return None
    try:
        return ServiceAccountId(decode_id(SERVICE_ACCOUNT, owner))
    except Invalid:
        raise Invalid("there is no such owner", param="owner") from None


def _project_id(text: str) -> ProjectId | None:
    if not text:
        return None
    try:
        return ProjectId(decode_id(PROJECT, text))
    except Invalid:
        raise Invalid("there is no such project", param="project") from None
