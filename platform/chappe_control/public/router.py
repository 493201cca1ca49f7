"""`/api/v1`: one router, so that no route can forget the guard."""

from litestar import Router

from chappe_control.authentication import require_tenant_caller
from chappe_control.bodies import check_body
from chappe_control.permissions import require_permission
from chappe_control.public import (
    alerts,
    audit,
    balance,
    customers,
    invitations,
    invoices,
    keys,
    leaked_keys,
    marketplace,
    members,
    organisation,
    payments,
    prices,
    projects,
    quotas,
    service_accounts,
    transactions,
    usage,
    webhooks,
)

MANAGEMENT_KEY = "managementKey"
PORTAL_SESSION = "portalSession"


def make_router() -> Router:
    return Router(
        "/api/v1",
        route_handlers=[
            balance.get_balance,
            transactions.list_own,
            invoices.list_own,
            invoices.read_preview,
            invoices.read_one,
            invoices.read_own_profile,
            invoices.change_own_profile,
            payments.list_own,
            payments.get_payment,
            payments.create_payment,
            usage.list_events,
            usage.summarise,
            usage.export_usage,
            projects.list_projects,
            projects.create_project,
            projects.get_project,
            projects.change_project,
            keys.list_keys,
            keys.create_key,
            keys.get_key,
            keys.change_key,
            keys.rotate_key,
            keys.revoke_key,
            organisation.read_organisation,
            organisation.change_organisation,
            customers.list_customers,
            customers.create,
            customers.read_customer,
            customers.change,
            customers.take_step,
            customers.invite_an_owner,
            customers.read_customer_balance,
            service_accounts.list_service_accounts,
            service_accounts.create_service_account,
            service_accounts.get_service_account,
            service_accounts.change_service_account,
            service_accounts.remove_service_account,
            members.list_members,
            members.get_member,
            members.change_member,
            members.remove_member,
            invitations.list_invitations,
            invitations.create_invitation,
            invitations.send_invitation,
            invitations.withdraw_invitation,
            quotas.list_quotas,
            quotas.read_effective,
            quotas.create_quota,
            quotas.read_quota,
            quotas.change_quota,
            quotas.remove_quota,
            alerts.list_alerts,
            alerts.read_forecast,
            alerts.read_settings,
            alerts.put_settings,
            webhooks.list_webhooks,
            webhooks.create_webhook,
            webhooks.get_webhook,
            webhooks.change_webhook,
            webhooks.remove_webhook,
            webhooks.rotate_secret,
            webhooks.send_test,
            webhooks.list_deliveries,
            webhooks.redeliver,
            audit.list_entries,
            marketplace.list_listings,
            marketplace.list_regions,
            prices.list_own_prices,
            prices.list_own_terms,
        ],
        guards=[require_tenant_caller, require_permission],
        before_request=check_body,
        security=[{MANAGEMENT_KEY: []}, {PORTAL_SESSION: []}],
    )


def make_open_router() -> Router:
    """What anybody may call, who is nobody: what is here decides for itself what it takes."""
    return Router("/api/v1", route_handlers=[leaked_keys.report_leaked_key], before_request=check_body, security=[{}])
