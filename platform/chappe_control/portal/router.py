"""The portal: one router, so that no route can forget the guard."""

from litestar import Router

from chappe_control.pages.guards import require_member
from chappe_control.permissions import require_permission
from chappe_control.portal import acknowledgement
from chappe_control.portal.alerts import routes as alerts
from chappe_control.portal.balance import routes as balance
from chappe_control.portal.billing_details import routes as billing_details
from chappe_control.portal.customers import owners as customer_owners
from chappe_control.portal.customers import routes as customers
from chappe_control.portal.exports import routes as exports
from chappe_control.portal.invoices import routes as invoices
from chappe_control.portal.keys import one as one_key
from chappe_control.portal.keys import routes as keys
from chappe_control.portal.members import routes as members
from chappe_control.portal.organisation import routes as organisation
from chappe_control.portal.organisations import routes as organisations
from chappe_control.portal.overview import routes as overview
from chappe_control.portal.playground import routes as playground
from chappe_control.portal.projects import routes as projects
from chappe_control.portal.quotas import routes as quotas
from chappe_control.portal.requests import routes as requests
from chappe_control.portal.webhooks import routes as webhooks


def make_router() -> Router:
    return Router(
        "/",
        route_handlers=[
            overview.open_portal,
            overview.show_overview,
            overview.show_overview_live,
            requests.list_requests,
            requests.show_request,
            exports.show_exports,
            exports.download,
            balance.show_balance_page,
            balance.top_up,
            balance.show_payment,
            balance.show_payment_live,
            balance.ask_refund,
            balance.come_back,
            balance.add_method,
            balance.show_setup,
            balance.show_setup_live,
            balance.choose_default,
            balance.remove_method,
            balance.change_auto_top_up,
            balance.open_service,
            invoices.list_invoices,
            invoices.show_invoice,
            billing_details.show_billing_details,
            billing_details.change_billing_details,
            acknowledgement.show_acknowledgement,
            keys.list_keys,
            keys.create_key,
            keys.revoke_key,
            organisation.show_organisation,
            organisation.change_organisation,
            customers.list_customers,
            customers.show_new_customer,
            customers.make_customer,
            customers.show_customer,
            customers.edit_customer,
            customers.take_step,
            customer_owners.show_owner_form,
            customer_owners.invite_first_owner,
            members.list_members,
            members.invite,
            members.send_invitation,
            members.withdraw_invitation,
            members.leave,
            members.show_member,
            members.change_role,
            members.remove_member,
            organisations.switch,
            alerts.show_alerts,
            alerts.change_alerts,
            webhooks.show_webhooks,
            webhooks.create_webhook,
            webhooks.show_webhook,
            webhooks.change_webhook,
            webhooks.rotate_secret,
            webhooks.enable_webhook,
            webhooks.remove_webhook,
            webhooks.send_test,
            webhooks.redeliver,
            quotas.show_quotas,
            quotas.create_quota,
            quotas.change_quota,
            quotas.remove_quota,
            one_key.show_key_page,
            one_key.change_key,
            one_key.rotate_key,
            projects.list_projects,
            projects.create_project,
            projects.show_project_page,
            projects.change_project,
            projects.archive_project,
            projects.restore_project,
            projects.create_service_account,
            projects.remove_service_account,
            playground.show_playground,
            playground.list_offers,
            playground.create_token,
            playground.show_settled,
        ],
        guards=[require_member, require_permission],
    )
