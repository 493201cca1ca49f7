"""Everybody's usage, or one tenant's, as a file."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter
from litestar.response import Stream

from chappe_billing.exporting.service import Format, export, export_all, make_period
from chappe_control import exports
from chappe_control.operator_api.tenants import scope_of
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.state import Given
from chappe_store.queries import read_now
from chappe_tenants.organisations.service import get_organisation

TenantId = Annotated[str | None, QueryParameter(max_length=100, description="Only this tenant's, `ten_…`.")]


@get(
    "/usage/export",
    permission=Permission.SEE_RATED_USAGE,
    tags=["Rated usage"],
    summary="Export usage",
    operation_id="operator_export_usage",
    operation_class=exports.ExportOperation,
    responses={**answers.READ_ONE, **exports.EXPORT},
)
async def export_usage(
    services: Given,
    kind: exports.Kind = Format.CSV,
    since: exports.Since = None,
    until: exports.Until = None,
    tenant_id: TenantId = None,
) -> Stream:
    """As the tenants' own export has it, tenant after tenant; streamed."""
    database = services.database
    async with database.audit() as session:
        period = make_period(since, until, await read_now(session))
    if tenant_id is None:
        return exports.as_file(services.exports, export_all(database, kind, period), kind, period)
    scope = scope_of(tenant_id)
    async with database.audit() as session:
        await get_organisation(session, scope)
    return exports.as_file(services.exports, export(database.audit, scope, kind, period), kind, period)
