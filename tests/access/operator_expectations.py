"""Who may do what in the operator's API: `tests.access.expectations`, continued."""

from chappe_kernel.ids import TENANT, encode_id
from tests.access import paid_things, things
from tests.access.expecting import (
    ADMINISTRATOR,
    CARE,
    MONEY,
    OPERATOR,
    operator_api,
)
from tests.access.world import TOKENS, Caller, an_address, unlike
from tests.control.world import CHAT

CREDIT = frozenset({Caller.ADMINISTRATOR, Caller.FINANCE})
CLOSED = {"state": "closed", "reason": "requested"}
QUOTA = {"requests_per_minute": 5}
REASON = {"reason": "a digit too many"}
DRAFT = {"title": "New prices"}


def _part() -> dict[str, str]:
    """Of a payment in suspense."""
    return {"amount": "3", "reference": unlike("ticket"), "reason": "the payer called"}


OPERATOR_API = {
    "GET /api/v1/operator/vat-rates": operator_api(OPERATOR),
    "POST /api/v1/operator/vat-rates": operator_api(CREDIT, 201, body=lambda _: things.RATE),
    "GET /api/v1/operator/legal-entities/{entity_id}/tax": operator_api(OPERATOR, of=things.a_legal_entity),
    "PUT /api/v1/operator/legal-entities/{entity_id}/tax": operator_api(
        CREDIT, of=things.a_legal_entity, body=lambda _: {"one_stop_shop": True}
    ),
    "DELETE /api/v1/operator/vat-rates/{country}/{starts_on}": operator_api(CREDIT, 204, of=things.a_scheduled_rate),
    "GET /api/v1/operator/vat-checks": operator_api(OPERATOR),
    "GET /api/v1/operator/tenants/{tenant_id}/tax": operator_api(OPERATOR, of=things.a_tenant),
    "POST /api/v1/operator/tenants/{tenant_id}/vat-check": operator_api(CREDIT, of=things.a_checked_tenant),
    "POST /api/v1/operator/tenants/{tenant_id}/vat-answers": operator_api(
        CREDIT, 201, of=things.a_checked_tenant, body=lambda _: {"vat_number": "DE123456789", "outcome": "confirmed"}
    ),
    "POST /api/v1/operator/tenants/{tenant_id}/tax-rulings": operator_api(
        CREDIT, 201, of=things.a_tenant, body=lambda _: {"category": "O", "reason": "an embassy"}
    ),
    "GET /api/v1/operator/document-refusals": operator_api(OPERATOR),
    "GET /api/v1/operator/invoices/{invoice_id}/document.pdf": operator_api(
        OPERATOR, of=things.an_invoice_with_documents
    ),
    "GET /api/v1/operator/invoices/{invoice_id}/document.xml": operator_api(
        OPERATOR, of=things.an_invoice_with_documents
    ),
    "GET /api/v1/operator/plans": operator_api(OPERATOR),
    "POST /api/v1/operator/plans": operator_api(
        ADMINISTRATOR, 201, body=lambda _: {"name": unlike().replace(" ", "-"), "title": "Plan"}
    ),
    "GET /api/v1/operator/plans/{plan}": operator_api(OPERATOR, of=things.a_plan),
    "PUT /api/v1/operator/plans/{plan}": operator_api(ADMINISTRATOR, of=things.a_plan, body=lambda _: {"title": "P"}),
    "DELETE /api/v1/operator/plans/{plan}": operator_api(ADMINISTRATOR, 204, of=things.a_plan),
    "GET /api/v1/operator/tenants/{tenant_id}/quotas": operator_api(OPERATOR, of=things.a_tenant),
    "GET /api/v1/operator/tenants/{tenant_id}/quotas/effective": operator_api(OPERATOR, of=things.a_tenant),
    "POST /api/v1/operator/tenants/{tenant_id}/quotas": operator_api(
        CARE, 201, of=things.a_tenant, body=lambda _: QUOTA | {"model": CHAT}
    ),
    "GET /api/v1/operator/tenants/{tenant_id}/quotas/{quota_id}": operator_api(OPERATOR, of=things.a_contracts_quota),
    "PATCH /api/v1/operator/tenants/{tenant_id}/quotas/{quota_id}": operator_api(
        CARE, of=things.a_contracts_quota, body=lambda _: QUOTA
    ),
    "DELETE /api/v1/operator/tenants/{tenant_id}/quotas/{quota_id}": operator_api(
        CARE, 204, of=things.a_contracts_quota
    ),
    "GET /api/v1/operator/tenants/{tenant_id}/quota-raises": operator_api(OPERATOR, of=things.a_tenant),
    "POST /api/v1/operator/tenants/{tenant_id}/quota-raises": operator_api(
        CARE, 201, of=things.a_tenant, body=lambda _: things.RAISE
    ),
    "DELETE /api/v1/operator/tenants/{tenant_id}/quota-raises/{raise_id}": operator_api(CARE, 204, of=things.a_raise),
    "GET /api/v1/operator/dunning": operator_api(MONEY),
    "GET /api/v1/operator/dunning/steps": operator_api(MONEY),
    "GET /api/v1/operator/tenants/{tenant_id}/dunning-pause": operator_api(MONEY, of=things.a_tenant),
    "PUT /api/v1/operator/tenants/{tenant_id}/dunning-pause": operator_api(
        CREDIT, of=things.a_tenant, body=lambda _: things.PAUSE
    ),
    "DELETE /api/v1/operator/tenants/{tenant_id}/dunning-pause": operator_api(CREDIT, 204, of=things.a_paused_tenant),
    "GET /api/v1/operator/legal-entities/{entity_id}/dunning-policy": operator_api(MONEY, of=things.a_legal_entity),
    "PUT /api/v1/operator/legal-entities/{entity_id}/dunning-policy": operator_api(
        CREDIT, of=things.a_legal_entity, body=lambda _: things.DUNNING
    ),
    "GET /api/v1/operator/prices": operator_api(OPERATOR),
    "GET /api/v1/operator/prices/{price_version}": operator_api(OPERATOR, of=things.a_price),
    "POST /api/v1/operator/prices/{price_version}/withdraw": operator_api(
        CREDIT, of=things.a_scheduled_price, body=lambda _: REASON
    ),
    "POST /api/v1/operator/prices/{price_version}/revert": operator_api(
        CREDIT, 201, of=things.a_wrong_price, body=lambda _: REASON
    ),
    "GET /api/v1/operator/tenants/{tenant_id}/contract-terms": operator_api(OPERATOR, of=things.a_tenant),
    "POST /api/v1/operator/tenants/{tenant_id}/contract-terms": operator_api(
        CREDIT, 201, of=things.a_tenant, body=lambda _: things.TERM
    ),
    "POST /api/v1/operator/tenants/{tenant_id}/contract-terms/{term_id}/end": operator_api(CREDIT, of=things.a_term),
    "GET /api/v1/operator/tenants/{tenant_id}/cut-offs": operator_api(OPERATOR, of=things.a_tenant),
    "GET /api/v1/operator/price-drafts": operator_api(OPERATOR),
    "POST /api/v1/operator/price-drafts": operator_api(CREDIT, 201, body=lambda _: DRAFT),
    "GET /api/v1/operator/price-drafts/{draft_id}": operator_api(OPERATOR, of=things.a_price_draft),
    "PUT /api/v1/operator/price-drafts/{draft_id}": operator_api(CREDIT, of=things.a_price_draft, body=lambda _: DRAFT),
    "DELETE /api/v1/operator/price-drafts/{draft_id}": operator_api(CREDIT, 204, of=things.a_price_draft),
    "GET /api/v1/operator/price-drafts/{draft_id}/differences": operator_api(OPERATOR, of=things.a_price_draft),
    "POST /api/v1/operator/price-drafts/{draft_id}/simulations": operator_api(
        CREDIT, of=things.a_price_draft, body=lambda _: {}
    ),
    "POST /api/v1/operator/price-drafts/{draft_id}/publish": operator_api(
        CREDIT, of=things.a_simulated_draft, body=lambda _: {}
    ),
    "GET /api/v1/operator/tenants": operator_api(OPERATOR),
    "POST /api/v1/operator/tenants": operator_api(CARE, 201, body=lambda _: {"name": unlike()}),
    "GET /api/v1/operator/tenants/{tenant_id}": operator_api(OPERATOR, of=things.a_tenant),
    "PATCH /api/v1/operator/tenants/{tenant_id}": operator_api(
        CARE, of=things.a_tenant, body=lambda _: {"name": unlike()}
    ),
    "POST /api/v1/operator/tenants/{tenant_id}/transitions": operator_api(
        CARE, of=things.a_tenant, body=lambda _: CLOSED
    ),
    "POST /api/v1/operator/tenants/{tenant_id}/owner-invitations": operator_api(
        CARE, 201, of=things.a_tenant, body=lambda _: {"email": an_address()}
    ),
    "GET /api/v1/operator/tenants/{tenant_id}/credit-limit": operator_api(OPERATOR, of=things.a_tenant),
    "PUT /api/v1/operator/tenants/{tenant_id}/credit-limit": operator_api(
        CREDIT, of=things.a_tenant, body=lambda _: {"credit_limit": "10"}
    ),
    "GET /api/v1/operator/payments": operator_api(MONEY),
    "GET /api/v1/operator/payments/{payment_id}": operator_api(MONEY, of=paid_things.an_own_payment),
    # The payment was never paid.
    "POST /api/v1/operator/payments/{payment_id}/refunds": operator_api(
        CREDIT, 409, of=paid_things.an_own_payment, body=lambda _: REASON
    ),
    "GET /api/v1/operator/payments/{payment_id}/refunds": operator_api(MONEY, of=paid_things.an_own_payment),
    "GET /api/v1/operator/payment-disputes": operator_api(MONEY),
    "GET /api/v1/operator/payment-calls": operator_api(MONEY),
    "POST /api/v1/operator/payment-calls/{call_id}/retry": operator_api(
        CREDIT, 201, of=paid_things.a_poisoned_call, body=lambda _: REASON
    ),
    "GET /api/v1/operator/tenants/{tenant_id}/transactions": operator_api(OPERATOR, of=things.a_tenant),
    "POST /api/v1/operator/tenants/{tenant_id}/transactions": operator_api(
        CREDIT, 201, of=things.a_tenant, body=lambda _: {"kind": "top_up", "amount": "5", "reference": unlike()}
    ),
    "POST /api/v1/operator/tenants/{tenant_id}/transactions/{transaction_id}/reversal": operator_api(
        CREDIT, 201, of=things.a_top_up, body=lambda _: {"reference": unlike(), "reason": "typed twice"}
    ),
    "GET /api/v1/operator/suspense": operator_api(OPERATOR),
    "POST /api/v1/operator/suspense": operator_api(
        CREDIT, 201, body=lambda _: {"amount": "7", "reference": unlike("bank")}
    ),
    "GET /api/v1/operator/suspense/{payment_id}": operator_api(OPERATOR, of=things.a_payment_in_suspense),
    "POST /api/v1/operator/suspense/{payment_id}/assignments": operator_api(
        CREDIT,
        201,
        of=things.a_payment_in_suspense,
        body=lambda home: {"tenant_id": encode_id(TENANT, home.id)} | _part(),
    ),
    "POST /api/v1/operator/suspense/{payment_id}/returns": operator_api(
        CREDIT, 201, of=things.a_payment_in_suspense, body=lambda _: _part()
    ),
    "POST /api/v1/operator/suspense/{payment_id}/reversal": operator_api(
        CREDIT, 201, of=things.a_payment_in_suspense, body=lambda _: {"reference": unlike("back"), "reason": "typed"}
    ),
    "GET /api/v1/operator/invoices": operator_api(MONEY),
    "POST /api/v1/operator/invoices": operator_api(
        CREDIT, 201, body=lambda home: {"tenant_id": encode_id(TENANT, home.id)}
    ),
    "GET /api/v1/operator/invoices/open": operator_api(MONEY),
    "GET /api/v1/operator/unbilled": operator_api(MONEY),
    "GET /api/v1/operator/invoices/{invoice_id}": operator_api(MONEY, of=things.an_invoice),
    "POST /api/v1/operator/invoices/{invoice_id}/payments": operator_api(
        CREDIT, 201, of=things.an_invoice, body=lambda _: {"amount": "0.01", "reference": unlike("bank")}
    ),
    "POST /api/v1/operator/invoices/{invoice_id}/write-offs": operator_api(
        CREDIT,
        201,
        of=things.an_invoice,
        body=lambda _: {"amount": "0.01", "reference": unlike("lost"), "reason": "insolvent"},
    ),
    "POST /api/v1/operator/invoices/{invoice_id}/credit-notes": operator_api(
        CREDIT, 201, of=things.an_invoice, body=lambda _: {"reference": unlike("case"), "reason": "agreed"}
    ),
    "GET /api/v1/operator/tenants/{tenant_id}/billing-terms": operator_api(MONEY, of=things.a_tenant),
    "PUT /api/v1/operator/tenants/{tenant_id}/billing-terms": operator_api(
        CREDIT, of=things.a_tenant, body=lambda _: {"payment_terms_days": 14}
    ),
    "GET /api/v1/operator/invoice-runs": operator_api(MONEY),
    "POST /api/v1/operator/invoice-runs": operator_api(CREDIT, 201, body=lambda _: {"month": "2026-01"}),
    "GET /api/v1/operator/invoice-runs/{run_id}": operator_api(MONEY, of=things.an_invoice_run),
    "GET /api/v1/operator/invoice-runs/{run_id}/log": operator_api(MONEY, of=things.an_invoice_run),
    "GET /api/v1/operator/journal/{month}": operator_api(MONEY, of=things.a_month),
    "GET /api/v1/operator/journal/accounts": operator_api(MONEY),
    "PUT /api/v1/operator/journal/accounts": operator_api(CREDIT, body=lambda _: {"accounts": {"revenue": "4400"}}),
    "GET /api/v1/operator/publishers": operator_api(MONEY),
    "GET /api/v1/operator/publishers/{publisher_id}/statements/{month}": operator_api(
        MONEY, of=things.a_publishers_month
    ),
    "GET /api/v1/operator/publishers/{publisher_id}/payouts": operator_api(MONEY, of=things.a_publisher),
    "POST /api/v1/operator/publishers/{publisher_id}/payouts": operator_api(
        CREDIT, 201, of=things.a_publisher, body=lambda _: {"amount": "0.000000001", "reference": unlike("bank")}
    ),
    "POST /api/v1/operator/publishers/{publisher_id}/payouts/{transaction_id}/reversal": operator_api(
        CREDIT, 201, of=things.a_payout, body=lambda _: {"reference": unlike("back"), "reason": "typed twice"}
    ),
    "GET /api/v1/operator/discrepancies": operator_api(MONEY),
    "POST /api/v1/operator/discrepancies/{discrepancy_id}/resolution": operator_api(
        CREDIT, 201, of=things.a_discrepancy, body=lambda _: {"reason": "looked at"}
    ),
    "GET /api/v1/operator/quarantine": operator_api(MONEY),
    "POST /api/v1/operator/quarantine/{request_id}/{digest}/decision": operator_api(
        CREDIT, 201, of=things.a_quarantined_event, body=lambda _: {"decision": "write_off", "reason": "lost"}
    ),
    "GET /api/v1/operator/legal-entities": operator_api(OPERATOR),
    "POST /api/v1/operator/legal-entities": operator_api(
        CREDIT, 201, body=lambda _: {"name": unlike(), "currency": "EUR"}
    ),
    "GET /api/v1/operator/legal-entities/{entity_id}": operator_api(OPERATOR, of=things.a_legal_entity),
    "PATCH /api/v1/operator/legal-entities/{entity_id}": operator_api(
        CREDIT, of=things.a_legal_entity, body=lambda _: {"registration": "RCS Paris 1"}
    ),
    "GET /api/v1/operator/usage/export": operator_api(MONEY),
    "GET /api/v1/operator/feed": operator_api(MONEY),
    "GET /api/v1/operator/feed/batches": operator_api(MONEY),
    "GET /api/v1/operator/feed/batches/{sequence}": operator_api(MONEY, of=things.a_batch),
    "GET /api/v1/operator/feed/batches/{sequence}/records": operator_api(MONEY, of=things.a_batch),
    "POST /api/v1/operator/feed/batches/{sequence}/acknowledgement": operator_api(
        CREDIT, of=things.a_batch, body=lambda _: {"chain": things.chain_of_the_batch()}
    ),
    "POST /api/v1/operator/feed/batches/{sequence}/request": operator_api(
        CREDIT, of=things.a_batch, body=lambda _: {"reason": "it never arrived"}
    ),
    "GET /tmf-api/usageManagement/v4/usage": operator_api(MONEY),
    "GET /tmf-api/usageManagement/v4/usage/{usage_id}": operator_api(MONEY, of=things.a_rated_usage),
    "GET /tmf-api/usageManagement/v4/usageSpecification": operator_api(MONEY),
    "GET /tmf-api/usageManagement/v4/usageSpecification/{specification_id}": operator_api(
        MONEY, of=things.a_usage_specification
    ),
    "GET /api/v1/operator/tokens": operator_api(OPERATOR),
    # A token makes no tokens.
    "POST /api/v1/operator/tokens": operator_api(OPERATOR, 201, body=lambda _: {"name": unlike()}).but(
        403, *TOKENS.values()
    ),
    # An administrator's: nobody else knows of it.
    "DELETE /api/v1/operator/tokens/{token_id}": operator_api(ADMINISTRATOR, 204, of=things.a_token).but(
        404, *(OPERATOR - ADMINISTRATOR), *(TOKENS[caller] for caller in OPERATOR - ADMINISTRATOR)
    ),
}
