"""Who may do what, route by route: written down a second time on purpose, by hand, and not derived from the table of
permissions. Whoever changes who may do what changes it here too; whoever adds a route adds a line here.

A line reads like a sentence: `"DELETE /api/v1/keys/{key_id}": tenant_api(MAKERS | KEY, 204, of=things.a_key)`.
"""

from chappe_kernel.ids import TENANT, encode_id, new_id
from tests.access import paid_things, things
from tests.access.expecting import (
    ADMINISTRATOR,
    CARE,
    CONSOLE_SIGN_IN,
    HEADS,
    KEY,
    MAKERS,
    MEMBERS,
    MONEY,
    OPERATIONS,
    OPERATOR,
    SIGN_IN,
    Expected,
    anybody,
    console,
    internal,
    portal,
    tenant_api,
)
from tests.access.operator_expectations import CLOSED, CREDIT, DRAFT, OPERATOR_API, QUOTA, REASON
from tests.access.world import Caller, an_address, unlike
from tests.control.world import CHAT

SIGNED_IN = (*MEMBERS, Caller.OTHER_OWNER)
"""To the portal."""

PAYERS = HEADS | {Caller.BILLING}
CUSTOMERS = HEADS | {Caller.BILLING, Caller.VIEWER}


PUBLIC_API = {
    "GET /api/v1/balance": tenant_api(MEMBERS | KEY),
    "GET /api/v1/transactions": tenant_api(MEMBERS | KEY),
    "GET /api/v1/tax": tenant_api(MEMBERS | KEY),
    "GET /api/v1/invoices/{invoice_id}/document.pdf": tenant_api(MEMBERS | KEY, of=things.an_invoice_with_documents),
    "GET /api/v1/invoices/{invoice_id}/document.xml": tenant_api(MEMBERS | KEY, of=things.an_invoice_with_documents),
    "GET /api/v1/invoices": tenant_api(MEMBERS | KEY),
    "GET /api/v1/invoices/preview": tenant_api(MEMBERS | KEY),
    "GET /api/v1/invoices/{invoice_id}": tenant_api(MEMBERS | KEY, of=things.an_invoice),
    "GET /api/v1/billing-profile": tenant_api(MEMBERS | KEY),
    "PATCH /api/v1/billing-profile": tenant_api(
        HEADS | {Caller.BILLING} | KEY, body=lambda _: {"purchase_order": unlike("PO")}
    ),
    "GET /api/v1/payments": tenant_api(MEMBERS | KEY),
    "GET /api/v1/payments/{payment_id}": tenant_api(MEMBERS | KEY, of=paid_things.an_own_payment),
    # Their legal entity takes no payments.
    "POST /api/v1/payments": tenant_api(PAYERS, 409, body=lambda _: {"amount": "20"}),
    "GET /api/v1/payment-methods": tenant_api(MEMBERS | KEY),
    "POST /api/v1/payment-methods/setups": tenant_api(PAYERS, 409),
    "GET /api/v1/payment-methods/setups/{setup_id}": tenant_api(MEMBERS | KEY, of=paid_things.an_own_setup_by_its_name),
    # Nothing is saved there.
    "POST /api/v1/payment-methods/{method_id}/default": tenant_api(PAYERS, 404, of=paid_things.no_method),
    "DELETE /api/v1/payment-methods/{method_id}": tenant_api(PAYERS, 404, of=paid_things.no_method),
    "GET /api/v1/auto-top-up": tenant_api(MEMBERS | KEY),
    "PUT /api/v1/auto-top-up": tenant_api(
        PAYERS, body=lambda _: {"on": False, "below": "5", "amount": "20", "most_per_month": 2}
    ),
    "GET /api/v1/prices": tenant_api(MEMBERS | KEY),
    "GET /api/v1/contract-terms": tenant_api(MEMBERS | KEY),
    "GET /api/v1/usage/events": tenant_api(MEMBERS | KEY),
    "GET /api/v1/usage/summary": tenant_api(MEMBERS | KEY),
    "GET /api/v1/usage/export": tenant_api(MEMBERS | KEY),
    "GET /api/v1/projects": tenant_api(MEMBERS | KEY),
    "POST /api/v1/projects": tenant_api(HEADS | KEY, 201, body=lambda _: {"name": unlike()}),
    "GET /api/v1/projects/{project_id}": tenant_api(MEMBERS | KEY, of=things.a_project),
    "PATCH /api/v1/projects/{project_id}": tenant_api(
        HEADS | KEY, of=things.a_project, body=lambda _: {"name": unlike()}
    ),
    "GET /api/v1/keys": tenant_api(MAKERS | {Caller.VIEWER} | KEY),
    "POST /api/v1/keys": tenant_api(
        MAKERS | KEY, 201, body=lambda home: {"name": unlike(), "project_id": home.project_id}
    ),
    "GET /api/v1/keys/{key_id}": tenant_api(MAKERS | {Caller.VIEWER} | KEY, of=things.a_key),
    "PATCH /api/v1/keys/{key_id}": tenant_api(MAKERS | KEY, of=things.a_key, body=lambda _: {"name": unlike()}),
    "POST /api/v1/keys/{key_id}/rotate": tenant_api(MAKERS | KEY, 201, of=things.a_key, body=lambda _: {}),
    "DELETE /api/v1/keys/{key_id}": tenant_api(MAKERS | KEY, 204, of=things.a_key),
    "GET /api/v1/members": tenant_api(MEMBERS | KEY),
    "GET /api/v1/members/{member_id}": tenant_api(MEMBERS | KEY, of=things.a_member),
    "PATCH /api/v1/members/{member_id}": tenant_api(HEADS, of=things.a_member, body=lambda _: {"role": "viewer"}),
    "DELETE /api/v1/members/{member_id}": tenant_api(HEADS, 204, of=things.a_member),
    "GET /api/v1/invitations": tenant_api(HEADS),
    "POST /api/v1/invitations": tenant_api(HEADS, 201, body=lambda _: {"email": an_address(), "role": "viewer"}),
    "POST /api/v1/invitations/{invitation_id}/send": tenant_api(HEADS, of=things.an_invitation),
    "DELETE /api/v1/invitations/{invitation_id}": tenant_api(HEADS, 204, of=things.an_invitation),
    "GET /api/v1/service-accounts": tenant_api(MAKERS | {Caller.VIEWER} | KEY),
    "POST /api/v1/service-accounts": tenant_api(
        MAKERS | KEY,
        201,
        body=lambda home: {"name": unlike(), "project_id": home.project_id, "scopes": ["inference"]},
    ),
    "GET /api/v1/service-accounts/{service_account_id}": tenant_api(
        MAKERS | {Caller.VIEWER} | KEY, of=things.a_service_account
    ),
    "PATCH /api/v1/service-accounts/{service_account_id}": tenant_api(
        MAKERS | KEY, of=things.a_service_account, body=lambda _: {"name": unlike()}
    ),
    "DELETE /api/v1/service-accounts/{service_account_id}": tenant_api(MAKERS | KEY, 204, of=things.a_service_account),
    "GET /api/v1/quotas": tenant_api(MEMBERS | KEY),
    "GET /api/v1/quotas/effective": tenant_api(MEMBERS | KEY),
    "POST /api/v1/quotas": tenant_api(HEADS | KEY, 201, of=things.no_own_quota, body=lambda _: QUOTA).but(
        201, Caller.OTHER_KEY, Caller.OTHER_OWNER
    ),
    "GET /api/v1/quotas/{quota_id}": tenant_api(MEMBERS | KEY, of=things.a_quota),
    "PATCH /api/v1/quotas/{quota_id}": tenant_api(HEADS | KEY, of=things.a_quota, body=lambda _: QUOTA),
    "DELETE /api/v1/quotas/{quota_id}": tenant_api(HEADS | KEY, 204, of=things.a_quota),
    "GET /api/v1/alerts": tenant_api(MEMBERS | KEY),
    "GET /api/v1/alerts/forecast": tenant_api(MEMBERS | KEY),
    "GET /api/v1/alerts/settings": tenant_api(MEMBERS | KEY),
    "PUT /api/v1/alerts/settings": tenant_api(HEADS | {Caller.BILLING} | KEY, body=lambda _: {"low_balance": "5"}),
    "GET /api/v1/webhooks": tenant_api(MAKERS | KEY),
    "POST /api/v1/webhooks": tenant_api(HEADS | KEY, 201, of=things.no_webhook, body=lambda _: things.WEBHOOK).but(
        201, Caller.OTHER_KEY, Caller.OTHER_OWNER
    ),
    "GET /api/v1/webhooks/{webhook_id}": tenant_api(MAKERS | KEY, of=things.a_webhook),
    "PATCH /api/v1/webhooks/{webhook_id}": tenant_api(
        HEADS | KEY, of=things.a_webhook, body=lambda _: {"description": "ours"}
    ),
    "DELETE /api/v1/webhooks/{webhook_id}": tenant_api(HEADS | KEY, 204, of=things.a_webhook),
    "POST /api/v1/webhooks/{webhook_id}/rotate": tenant_api(HEADS | KEY, 201, of=things.a_webhook),
    "POST /api/v1/webhooks/{webhook_id}/test": tenant_api(HEADS | KEY, 201, of=things.a_webhook),
    "GET /api/v1/webhooks/{webhook_id}/deliveries": tenant_api(MAKERS | KEY, of=things.a_webhook),
    "POST /api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": tenant_api(
        HEADS | KEY, 201, of=things.a_delivery
    ),
    "GET /api/v1/audit": tenant_api(HEADS | KEY),
    "GET /api/v1/organisation": tenant_api(MEMBERS | KEY),
    "PATCH /api/v1/organisation": tenant_api(HEADS, body=lambda _: {"name": unlike()}),
    "GET /api/v1/customers": tenant_api(CUSTOMERS | KEY),
    # Beta is no reseller.
    "POST /api/v1/customers": tenant_api(
        HEADS | KEY, 201, of=things.nothing_but_a_reseller, body=lambda _: {"name": unlike()}
    ).but(403, Caller.OTHER_KEY, Caller.OTHER_OWNER),
    "GET /api/v1/customers/{customer_id}": tenant_api(CUSTOMERS | KEY, of=things.a_customer),
    "GET /api/v1/customers/{customer_id}/balance": tenant_api(CUSTOMERS | KEY, of=things.a_customer),
    "PATCH /api/v1/customers/{customer_id}": tenant_api(
        HEADS | KEY, of=things.a_customer, body=lambda _: {"name": unlike()}
    ),
    "POST /api/v1/customers/{customer_id}/transitions": tenant_api(
        HEADS | KEY, of=things.a_customer, body=lambda _: CLOSED
    ),
    "POST /api/v1/customers/{customer_id}/owner-invitations": tenant_api(
        HEADS | KEY, 201, of=things.a_customer, body=lambda _: {"email": an_address()}
    ),
    "GET /api/v1/listings": tenant_api(MEMBERS | KEY),
    "GET /api/v1/regions": tenant_api(MEMBERS | KEY),
}


PORTAL = {
    "GET /balance": portal(MEMBERS),
    "POST /balance/top-up": portal(PAYERS, 409, form=lambda _: {"amount": "20"}),
    "GET /balance/payments/{payment_id}": portal(MEMBERS, of=paid_things.an_own_payment),
    "GET /balance/payments/{payment_id}/live": portal(MEMBERS, of=paid_things.an_own_payment),
    "POST /balance/payments/{payment_id}/refund": portal(
        PAYERS, 303, of=paid_things.an_own_payment, form=lambda _: {"refund_id": str(new_id())}
    ),
    "GET /balance/methods": portal(MEMBERS, 303),
    "POST /balance/methods": portal(PAYERS, 303),
    "GET /balance/methods/{call_id}": portal(MEMBERS, of=paid_things.an_own_setup),
    "GET /balance/methods/{call_id}/live": portal(MEMBERS, of=paid_things.an_own_setup),
    # Nobody has such a method.
    "POST /balance/methods/default": portal(PAYERS, 404, form=lambda _: {"method": "pm_1"}),
    "POST /balance/methods/remove": portal(PAYERS, 404, form=lambda _: {"method": "pm_1"}),
    # Off, which it may be anywhere.
    "POST /balance/auto-top-up": portal(
        PAYERS, 303, form=lambda _: {"below": "10", "net": "50", "most_per_month": "3"}
    ),
    "GET /balance/service": portal(PAYERS, 404),
    "GET /invoices": portal(MEMBERS),
    "GET /invoices/{invoice_id}": portal(MEMBERS, of=things.an_invoice),
    "GET /quotas": portal(MEMBERS),
    "POST /quotas": portal(
        HEADS,
        303,
        of=things.no_own_quota,
        form=lambda _: {"subject": "organisation", "model": "*", "requests_per_minute": "5"},
    ).but(303, Caller.OTHER_OWNER),
    # It does not say what it was made from.
    "POST /quotas/{quota_id}": portal(HEADS, 409, of=things.a_quota, form=lambda _: {"requests_per_minute": "5"}),
    "POST /quotas/{quota_id}/remove": portal(HEADS, 303, of=things.a_quota),
    "GET /billing-details": portal(MEMBERS),
    "POST /billing-details": portal(PAYERS, 303, form=lambda _: {"purchase_order": unlike("PO"), "language": "en"}),
    "GET /alerts": portal(MEMBERS),
    "POST /alerts": portal(HEADS | {Caller.BILLING}, 303, form=lambda _: {"low_balance": "5", "to_members": "on"}),
    "GET /webhooks": portal(MAKERS),
    "POST /webhooks": portal(HEADS, 201, of=things.no_webhook, form=lambda _: things.WEBHOOK).but(
        201, Caller.OTHER_OWNER
    ),
    "GET /webhooks/{webhook_id}": portal(MAKERS, of=things.a_webhook),
    "POST /webhooks/{webhook_id}": portal(HEADS, 303, of=things.a_webhook, form=lambda _: things.WEBHOOK),
    "POST /webhooks/{webhook_id}/rotate": portal(HEADS, 201, of=things.a_webhook),
    "POST /webhooks/{webhook_id}/enabled": portal(HEADS, 303, of=things.a_webhook),
    "POST /webhooks/{webhook_id}/remove": portal(HEADS, 303, of=things.a_webhook),
    "POST /webhooks/{webhook_id}/test": portal(HEADS, 303, of=things.a_webhook),
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": portal(HEADS, 303, of=things.a_delivery),
    "GET /": portal(MEMBERS, 303),
    "GET /overview": portal(MEMBERS),
    "GET /overview/live": portal(MEMBERS),
    "GET /requests": portal(MEMBERS),
    "GET /requests/{request_id}": portal(MEMBERS, of=things.a_request),
    "GET /exports": portal(MEMBERS),
    # The address says no format.
    "GET /exports/file": portal(MEMBERS, 400),
    "GET /keys": portal(MAKERS | {Caller.VIEWER}),
    "POST /keys": portal(MAKERS, 201, form=lambda _: {"name": unlike(), "kind": "inference"}),
    "POST /keys/{key_id}/revoke": portal(MAKERS, 303, of=things.a_key),
    "GET /acknowledgement/live": portal(MEMBERS),
    "GET /members": portal(MEMBERS),
    "POST /members/invite": portal(HEADS, 303, form=lambda _: {"email": an_address(), "role": "viewer"}),
    "POST /members/invitations/{invitation_id}/send": portal(HEADS, 303, of=things.an_invitation),
    "POST /members/invitations/{invitation_id}/withdraw": portal(HEADS, 303, of=things.an_invitation),
    "GET /members/{member_id}": portal(HEADS, of=things.a_member),
    "POST /members/{member_id}": portal(HEADS, 303, of=things.a_member, form=lambda _: {"role": "viewer"}),
    "POST /members/{member_id}/remove": portal(HEADS, 303, of=things.a_member),
    # Whoever leaves is signed out.
    "POST /members/leave": portal(MEMBERS, signs_out=True).but(SIGN_IN, *SIGNED_IN),
    "POST /organisations/switch": portal(
        MEMBERS, 303, form=lambda home: {"organisation": encode_id(TENANT, home.id)}, signs_out=True
    ),
    "GET /organisation": portal(MEMBERS),
    # With the country that an invoice of Alpha's needs: what is known of it stays.
    "POST /organisation": portal(
        HEADS,
        303,
        form=lambda _: {
            "name": unlike(),
            "regions": ["fr-par", "de-fra"],
            "line_1": "1 rue de la Paix",
            "city": "Lyon",
            "country": "FR",
        },
    ),
    "GET /customers": portal(CUSTOMERS),
    # Beta is no reseller.
    "GET /customers/new": portal(HEADS, of=things.nothing_but_a_reseller).but(403, Caller.OTHER_OWNER),
    "POST /customers/new": portal(
        HEADS, 303, of=things.nothing_but_a_reseller, form=lambda _: {"name": unlike(), "regions": "fr-par"}
    ).but(403, Caller.OTHER_OWNER),
    "GET /customers/{customer_id}": portal(CUSTOMERS, of=things.a_customer),
    "POST /customers/{customer_id}": portal(
        HEADS, 303, of=things.a_customer, form=lambda _: {"name": unlike(), "regions": ["fr-par", "de-fra"]}
    ),
    "POST /customers/{customer_id}/transitions": portal(HEADS, 303, of=things.a_customer, form=lambda _: CLOSED),
    "GET /customers/{customer_id}/owners": portal(HEADS, of=things.a_customer),
    "POST /customers/{customer_id}/owners": portal(
        HEADS, 303, of=things.a_customer, form=lambda _: {"email": an_address()}
    ),
    "GET /keys/{key_id}": portal(MAKERS | {Caller.VIEWER}, of=things.a_key),
    "POST /keys/{key_id}": portal(MAKERS, 303, of=things.a_key, form=lambda _: {"name": unlike()}),
    "POST /keys/{key_id}/rotate": portal(MAKERS, 201, of=things.a_key),
    "GET /projects": portal(MEMBERS),
    "POST /projects": portal(HEADS, 303, form=lambda _: {"name": unlike()}),
    "GET /projects/{project_id}": portal(MEMBERS, of=things.a_project),
    "POST /projects/{project_id}": portal(HEADS, 303, of=things.a_project, form=lambda _: {"name": unlike()}),
    "POST /projects/{project_id}/archive": portal(HEADS, 303, of=things.a_project),
    "POST /projects/{project_id}/restore": portal(HEADS, 303, of=things.a_project),
    "POST /projects/{project_id}/service-accounts": portal(
        MAKERS, 303, of=things.a_project, form=lambda _: {"account_name": unlike()}
    ),
    "POST /projects/{project_id}/service-accounts/{service_account_id}/remove": portal(
        MAKERS, 303, of=things.a_service_account
    ),
    "GET /playground": portal(MAKERS),
    "GET /playground/offers": portal(MAKERS),
    "POST /playground/token": portal(MAKERS, 201, script=True),
    # It says "not settled yet" of another tenant's request, as of one that is not there.
    "GET /playground/requests/{request_id}": portal(MAKERS, of=things.no_request).but(200, Caller.OTHER_OWNER),
}

CONSOLE = {
    "GET /console/tenants/{tenant_id}/quotas": console(OPERATOR, of=things.a_tenant),
    "POST /console/tenants/{tenant_id}/quotas/raises": console(
        CARE,
        303,
        of=things.a_tenant,
        form=lambda _: {"model": "*", "requests_per_minute": "6000", "reason": "launch", "last_day": things.TOMORROW},
    ),
    "POST /console/tenants/{tenant_id}/quotas/raises/{raise_id}/end": console(CARE, 303, of=things.a_raise),
    "GET /console": console(OPERATOR, 303),
    "GET /console/regions": console(OPERATIONS),
    "GET /console/regions/live": console(OPERATIONS),
    "GET /console/deployments": console(OPERATIONS),
    "GET /console/deployments/live": console(OPERATIONS),
    "GET /console/tenants": console(OPERATOR),
    "GET /console/tenants/live": console(OPERATOR),
    "GET /console/tenants/{tenant_id}": console(OPERATOR, of=things.a_tenant),
    "GET /console/tenants/{tenant_id}/live": console(OPERATOR, of=things.a_tenant),
    "GET /console/tenants/new": console(CARE),
    "POST /console/tenants/new": console(
        CARE,
        303,
        form=lambda _: {
            "name": unlike(),
            "state": "applied",
            "currency": "EUR",
            "plan": "standard",
            "relation": "subsidiary",
            "regions": "fr-par",
        },
    ),
    "GET /console/tenants/{tenant_id}/edit": console(CARE, of=things.a_tenant),
    "POST /console/tenants/{tenant_id}/edit": console(
        CARE, 303, of=things.a_tenant, form=lambda _: {"name": unlike(), "plan": "standard", "regions": "fr-par"}
    ),
    "GET /console/tenants/{tenant_id}/credit-limit": console(CREDIT, of=things.a_tenant),
    "POST /console/tenants/{tenant_id}/credit-limit": console(
        CREDIT, 303, of=things.a_tenant, form=lambda _: {"credit_limit": "10"}
    ),
    "GET /console/tenants/{tenant_id}/owners": console(CARE, of=things.a_tenant),
    "POST /console/tenants/{tenant_id}/owners": console(
        CARE, 303, of=things.a_tenant, form=lambda _: {"email": an_address()}
    ),
    "POST /console/tenants/{tenant_id}/transitions": console(CARE, 303, of=things.a_tenant, form=lambda _: CLOSED),
    "GET /console/revenue": console(MONEY),
    "GET /console/revenue/live": console(MONEY),
    "GET /console/invoices": console(MONEY),
    "POST /console/invoices/runs": console(CREDIT, 303, form=lambda _: {"month": "2026-01"}),
    "GET /console/invoices/runs/{run_id}": console(MONEY, of=things.an_invoice_run),
    "POST /console/invoices/issue/{tenant_id}": console(CREDIT, 303, of=things.a_tenant),
    "GET /console/invoices/{invoice_id}": console(MONEY, of=things.an_invoice),
    "POST /console/invoices/{invoice_id}/payments": console(
        CREDIT,
        303,
        of=things.an_invoice,
        form=lambda _: {"amount": "0.01", "reference": unlike("bank"), "rail": "bank_transfer"},
    ),
    "POST /console/invoices/{invoice_id}/write-offs": console(
        CREDIT,
        303,
        of=things.an_invoice,
        form=lambda _: {
            "loss": "0.01",
            "loss_reason": "insolvent",
            "loss_reference": unlike("loss"),
            "confirmed": "on",
        },
    ),
    "POST /console/invoices/{invoice_id}/credit-notes": console(
        CREDIT, 303, of=things.an_invoice, form=lambda _: {**REASON, "credit_reference": unlike("case")}
    ),
    "GET /console/dunning": console(MONEY),
    "POST /console/dunning/tenants/{tenant_id}/pause": console(
        CREDIT, 303, of=things.a_tenant, form=lambda _: {"reason": "promised", "last_day": things.TOMORROW}
    ),
    "POST /console/dunning/tenants/{tenant_id}/resume": console(CREDIT, 303, of=things.a_paused_tenant),
    "POST /console/dunning/policies/{entity_id}": console(
        CREDIT, 303, of=things.a_legal_entity, form=lambda _: {"notice_days": "1, 8", "grace_days": "7"}
    ),
    "GET /console/payments": console(MONEY),
    "POST /console/payments/{payment_id}/refund": console(
        CREDIT, 303, of=paid_things.an_own_payment, form=lambda _: {**REASON, "refund_id": str(new_id())}
    ),
    "POST /console/payments/calls/{call_id}/retry": console(
        CREDIT, 303, of=paid_things.a_poisoned_call, form=lambda _: REASON
    ),
    "POST /console/payments/quarantine/{quarantined_id}/close": console(
        CREDIT, 303, of=paid_things.a_payment_in_quarantine, form=lambda _: REASON
    ),
    "GET /console/tax": console(OPERATOR),
    "POST /console/tax/checks/{tenant_id}": console(CREDIT, 303, of=things.a_checked_tenant),
    "GET /console/tax/rates": console(OPERATOR),
    "POST /console/tax/rates": console(
        CREDIT,
        303,
        form=lambda _: {"country": "IS", "rate": "24.5", "starts_on": "2089-01-01", "source": "a law"},
    ),
    "POST /console/tax/rates/{country}/{starts_on}/withdrawal": console(CREDIT, 303, of=things.a_scheduled_rate),
    "POST /console/tax/refusals/{invoice_id}": console(CREDIT, 303, of=things.a_refused_invoice),
    "GET /console/tenants/{tenant_id}/tax": console(OPERATOR, of=things.a_tenant),
    "POST /console/tenants/{tenant_id}/tax/rulings": console(
        CREDIT, 303, of=things.a_tenant, form=lambda _: {"category": "AE", **REASON}
    ),
    "GET /console/disputes": console(MONEY),
    "POST /console/disputes/discrepancies/{discrepancy_id}": console(
        CREDIT, 303, of=things.a_discrepancy, form=lambda _: {"reason": "looked at", "decision": "keep"}
    ),
    "POST /console/disputes/quarantine/{request_id}/{digest}": console(
        CREDIT, 303, of=things.a_quarantined_event, form=lambda _: {"reason": "lost", "decision": "write_off"}
    ),
    "GET /console/prices": console(OPERATOR),
    "GET /console/prices/history": console(OPERATOR),
    "GET /console/prices/versions/{price_version}": console(OPERATOR, of=things.a_price),
    "POST /console/prices/versions/{price_version}/withdraw": console(
        CREDIT, 303, of=things.a_scheduled_price, form=lambda _: REASON
    ),
    "POST /console/prices/versions/{price_version}/revert": console(
        CREDIT, 303, of=things.a_wrong_price, form=lambda _: REASON
    ),
    "GET /console/prices/drafts": console(OPERATOR),
    "GET /console/prices/drafts/new": console(CREDIT),
    "POST /console/prices/drafts/new": console(CREDIT, 303, form=lambda _: DRAFT),
    "GET /console/prices/drafts/{draft_id}": console(OPERATOR, of=things.a_price_draft),
    "POST /console/prices/drafts/{draft_id}/lines": console(
        CREDIT,
        303,
        of=things.a_price_draft,
        form=lambda _: {"model": CHAT, "region": "fr-par", "input": "1", "cached_input": "1", "output": "1"},
    ),
    "POST /console/prices/drafts/{draft_id}/lines/remove": console(
        CREDIT, 303, of=things.a_price_draft, form=lambda _: {"model": CHAT, "region": "fr-par"}
    ),
    "POST /console/prices/drafts/{draft_id}/simulate": console(CREDIT, 303, of=things.a_simulated_draft),
    # What it says when it is sent is not what the page showed: there is no page here.
    "POST /console/prices/drafts/{draft_id}/publish": console(CREDIT, 409, of=things.a_simulated_draft),
    "POST /console/prices/drafts/{draft_id}/discard": console(CREDIT, 303, of=things.a_price_draft),
    "GET /console/tenants/{tenant_id}/prices": console(OPERATOR, of=things.a_tenant),
    "POST /console/tenants/{tenant_id}/prices/terms": console(
        CREDIT,
        303,
        of=things.a_tenant,
        form=lambda _: {"kind": "minimum", "first_month": "2090-01", "amount": "1"},
    ),
    "POST /console/tenants/{tenant_id}/prices/terms/{term_id}/end": console(CREDIT, 303, of=things.a_term),
    "GET /console/gallery": console(ADMINISTRATOR),
    "GET /console/gallery/live": console(ADMINISTRATOR),
}

# Who is signed in already is sent on.
FOR_EVERYBODY = {
    "GET /sign-in": anybody().but(303, *SIGNED_IN),
    "POST /sign-in": anybody(403, form=lambda _: {"email": "nobody@example.eu", "password": "wrong"}),
    "GET /sign-up": anybody().but(303, *SIGNED_IN),
    "POST /sign-up": anybody(422, form=lambda _: {"email": "no address", "password": "", "organisation": ""}),
    # Without a link that is good there is nothing to see.
    "GET /sign-up/confirm": anybody(410),
    "POST /sign-up/confirm": anybody(410, form=lambda _: {"link": "x"}),
    "GET /forgot-password": anybody(),
    "POST /forgot-password": anybody(422, form=lambda _: {"email": "no address"}),
    "GET /reset-password": anybody(410),
    "POST /reset-password": anybody(410, form=lambda _: {"link": "x"}),
    "GET /join": anybody(410),
    "POST /join": anybody(410, form=lambda _: {"link": "x", "password": "x"}),
    "POST /sign-out": anybody(SIGN_IN, signs_out=True),
    "GET /console/sign-in": anybody().but(303, *OPERATOR),
    "POST /console/sign-in": anybody(403, form=lambda _: {"email": "nobody@example.eu", "password": "wrong"}),
    "POST /console/sign-out": anybody(CONSOLE_SIGN_IN, signs_out=True),
    "POST /preferences": anybody(303, form=lambda _: {"language": "fr"}),
    "POST /csp-report": anybody(204, body=lambda _: {"csp-report": {}}),
    "POST /api/v1/leaked-keys": anybody(202, body=lambda _: {"key": "no key of ours"}),
    "GET /static/{name}": anybody(of=things.an_asset),
    "GET /schema/openapi.json": anybody(),
    "GET /schema": anybody(),
    "GET /schema/{path}": anybody(404),
    "GET /healthz": anybody(),
    # Where nobody collects by the service there is nothing to tell.
    "POST /webhooks/stripe": anybody(404, body=lambda _: {}),
}

INTERNAL = {
    "GET /internal/v1/snapshot": internal(),
    "GET /internal/v1/deployments": internal(),
    "POST /internal/v1/deployments/status": internal(204, body=lambda _: []),
    "POST /internal/v1/heartbeat": internal(
        204, body=lambda _: {"gateway": "gw-1", "snapshot_version": "", "healthy_deployments": []}
    ),
    # Of whoever does not say since when.
    "GET /internal/v1/keys/changes": internal(400),
    "POST /internal/v1/keys/resolve": internal(
        404, body=lambda _: {"digests": [{"pepper_version": 1, "digest": "AAAA"}]}
    ),
    "POST /internal/v1/content/terms": internal(body=lambda _: {"holders": []}),
    "POST /internal/v1/grants": internal(
        body=lambda home: {
            "grant_id": str(new_id()),
            "tenant_id": str(home.id),
            "gateway": "gw-1",
            "wanted_nano": 1,
            "minimum_nano": 1,
        },
    ),
    # Nothing was restored, whosever the grant is.
    "PUT /internal/v1/grants/{grant_id}/kept": internal(
        409,
        of=things.a_grant,
        body=lambda home: {
            "tenant_id": str(home.id),
            "gateway": "gw-1",
            "amount_nano": 1,
            "returned_nano": 0,
            "settle_for_s": 1,
            "release_for_s": 1,
        },
    ).but(409, Caller.OTHER_REGION),
    # Of whoever does not say which gateway it is.
    "GET /internal/v1/grants/recalls": internal(400),
    "PUT /internal/v1/grants/{grant_id}/returned": internal(
        204, of=things.a_grant, body=lambda _: {"returned_nano": 1}
    ),
    "POST /internal/v1/usage": internal(body=lambda _: {"gateway": "gw-1", "events": []}),
}

EXPECTED: dict[str, Expected] = PUBLIC_API | OPERATOR_API | PORTAL | CONSOLE | FOR_EVERYBODY | INTERNAL
