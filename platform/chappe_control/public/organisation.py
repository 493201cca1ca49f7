"""The calling organisation itself."""

from litestar import Response, get, patch
from litestar.params import JSONBody

from chappe_catalogue.regions.queries import read_jurisdictions
from chappe_control.authentication import TenantRequest
from chappe_control.etags import ETAG_HEADER, IfMatch, check_match, with_etag
from chappe_control.origins import origin_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.state import Given
from chappe_tenants.organisations.changes import change_own
from chappe_tenants.organisations.schemas import ChangeOrganisation, OrganisationView, show_organisation
from chappe_tenants.organisations.service import get_organisation

_TAG = "Organisation"


@get(
    "/organisation",
    permission=Permission.READ_ORGANISATION,
    tags=[_TAG],
    summary="Read your organisation",
    operation_id="get_organisation",
    responses=answers.READ,
    response_headers=[ETAG_HEADER],
)
async def read_organisation(request: TenantRequest, services: Given) -> Response[OrganisationView]:
    """Its details, where its requests may run, and its state."""
    async with services.database.tenant(request.auth.scope) as session:
        return with_etag(show_organisation(await get_organisation(session, request.auth.scope)))


@patch(
    "/organisation",
    permission=Permission.MANAGE_ORGANISATION,
    tags=[_TAG],
    summary="Change your organisation",
    operation_id="change_organisation",
    responses=answers.CHANGE,
    response_headers=[ETAG_HEADER],
)
async def change_organisation(
    request: TenantRequest, services: Given, data: JSONBody[ChangeOrganisation], if_match: IfMatch = None
) -> Response[OrganisationView]:
    """What is left out stays. Once verified, legal name, country and VAT number are the operator's to change. Regions
    can be reordered and taken away; only the operator adds some."""
    scope = request.auth.scope
    async with services.database.tenant(scope, origin_of(request)) as session:
        tenant = await change_own(
            session,
            scope,
            data,
            jurisdiction_of=await read_jurisdictions(session),
            check=lambda present: check_match(request, show_organisation(present)),
        )
        return with_etag(show_organisation(tenant))
