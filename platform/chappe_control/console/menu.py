"""The console's pages in their order, and the words for the roles."""

from chappe_control.pages.languages import N_
from chappe_control.permissions import Permission, may
from chappe_tenants.operators.service import OperatorRole

ROLE_NAMES = {
    OperatorRole.ADMINISTRATOR: N_("Administrator"),
    OperatorRole.SUPPORT: N_("Support"),
    OperatorRole.FINANCE: N_("Finance"),
    OperatorRole.AUDITOR: N_("Auditor"),
}

MENU = {
    "/console/regions": Permission.SEE_REGIONS,
    "/console/deployments": Permission.SEE_DEPLOYMENTS,
    "/console/tenants": Permission.SEE_TENANTS,
    "/console/revenue": Permission.SEE_REVENUE,
    "/console/invoices": Permission.SEE_INVOICES,
    "/console/dunning": Permission.SEE_DUNNING,
    "/console/payments": Permission.SEE_PAYMENTS,
    "/console/tax": Permission.SEE_TENANTS,
    "/console/disputes": Permission.SEE_QUEUES,
    "/console/prices": Permission.SEE_PRICES,
}
"""The permission that each page takes."""


def first_page(role: OperatorRole) -> str:
    """Where a role begins: the first page of the menu that it may open."""
    return next(path for path, permission in MENU.items() if may(role, permission))
