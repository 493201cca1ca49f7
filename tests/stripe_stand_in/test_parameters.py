"""Every parameter that a route takes is one that the SDK can send there, and every route is one that the SDK calls."""

import re
import typing
from functools import cache
from importlib import import_module
from typing import Any, get_args

import pytest
from stripe import params
from typing_extensions import is_typeddict

from chappe_local.stripe_stand_in.api import ROUTES
from chappe_local.stripe_stand_in.parameters import Spec
from chappe_local.stripe_stand_in.routing import Route

PARAMS = {
    "POST /v1/customers": "CustomerCreateParams",
    "GET /v1/customers": "CustomerListParams",
    "GET /v1/customers/search": "CustomerSearchParams",
    "POST /v1/customers/{id}": "CustomerUpdateParams",
    "POST /v1/customers/{id}/funding_instructions": "CustomerCreateFundingInstructionsParams",
    "GET /v1/customers/{id}/cash_balance_transactions": "CustomerCashBalanceTransactionListParams",
    "POST /v1/test_helpers/customers/{id}/fund_cash_balance": "test_helpers.CustomerFundCashBalanceParams",
    "POST /v1/payment_methods": "PaymentMethodCreateParams",
    "GET /v1/payment_methods": "PaymentMethodListParams",
    "POST /v1/payment_methods/{id}": "PaymentMethodUpdateParams",
    "POST /v1/payment_methods/{id}/attach": "PaymentMethodAttachParams",
    "GET /v1/customers/{id}/payment_methods": "CustomerPaymentMethodListParams",
    "POST /v1/payment_intents": "PaymentIntentCreateParams",
    "GET /v1/payment_intents": "PaymentIntentListParams",
    "GET /v1/payment_intents/search": "PaymentIntentSearchParams",
    "GET /v1/payment_intents/{id}": "PaymentIntentRetrieveParams",
    "POST /v1/payment_intents/{id}": "PaymentIntentUpdateParams",
    "POST /v1/payment_intents/{id}/confirm": "PaymentIntentConfirmParams",
    "POST /v1/payment_intents/{id}/cancel": "PaymentIntentCancelParams",
    "POST /v1/setup_intents": "SetupIntentCreateParams",
    "GET /v1/setup_intents": "SetupIntentListParams",
    "POST /v1/setup_intents/{id}": "SetupIntentUpdateParams",
    "POST /v1/setup_intents/{id}/confirm": "SetupIntentConfirmParams",
    "POST /v1/setup_intents/{id}/cancel": "SetupIntentCancelParams",
    "GET /v1/charges": "ChargeListParams",
    "POST /v1/charges/{id}": "ChargeUpdateParams",
    "POST /v1/refunds": "RefundCreateParams",
    "GET /v1/refunds": "RefundListParams",
    "POST /v1/refunds/{id}": "RefundUpdateParams",
    "GET /v1/disputes": "DisputeListParams",
    "POST /v1/disputes/{id}": "DisputeUpdateParams",
    "GET /v1/balance_transactions": "BalanceTransactionListParams",
    "POST /v1/checkout/sessions": "checkout.SessionCreateParams",
    "GET /v1/checkout/sessions": "checkout.SessionListParams",
    "POST /v1/checkout/sessions/{id}": "checkout.SessionUpdateParams",
    "GET /v1/checkout/sessions/{id}/line_items": "checkout.SessionLineItemListParams",
    "POST /v1/invoiceitems": "InvoiceItemCreateParams",
    "GET /v1/invoiceitems": "InvoiceItemListParams",
    "POST /v1/invoiceitems/{id}": "InvoiceItemUpdateParams",
    "POST /v1/invoices": "InvoiceCreateParams",
    "GET /v1/invoices": "InvoiceListParams",
    "GET /v1/invoices/search": "InvoiceSearchParams",
    "POST /v1/invoices/{id}": "InvoiceUpdateParams",
    "GET /v1/invoices/{id}/lines": "InvoiceLineItemListParams",
    "POST /v1/invoices/{id}/finalize": "InvoiceFinalizeInvoiceParams",
    "POST /v1/invoices/{id}/pay": "InvoicePayParams",
    "GET /v1/invoice_payments": "InvoicePaymentListParams",
    "POST /v1/billing_portal/sessions": "billing_portal.SessionCreateParams",
    "POST /v1/billing/meters": "billing.MeterCreateParams",
    "GET /v1/billing/meters": "billing.MeterListParams",
    "POST /v1/billing/meters/{id}": "billing.MeterUpdateParams",
    "GET /v1/billing/meters/{id}/event_summaries": "billing.MeterEventSummaryListParams",
    "POST /v1/billing/meter_events": "billing.MeterEventCreateParams",
    "GET /v1/events": "EventListParams",
    "POST /v1/webhook_endpoints": "WebhookEndpointCreateParams",
    "GET /v1/webhook_endpoints": "WebhookEndpointListParams",
    "POST /v1/webhook_endpoints/{id}": "WebhookEndpointUpdateParams",
}
WITH_PARAMS = [route for route in ROUTES if route.known]


@pytest.mark.parametrize("route", WITH_PARAMS, ids=lambda route: f"{route.method} {route.path}")
def test_parameters_are_the_sdks(route: Route) -> None:
    kind = _params(PARAMS[f"{route.method} {route.path}"])
    assert list(_unknown(dict(route.known), kind, "")) == []
    # Nothing is needed here that Stripe does without, save what it takes in several ways and we in one.
    assert {*route.required} <= {*_hints(kind)}


def test_no_two_routes_are_one() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        concrete = re.sub(r"\{[a-z]+\}", "x_1", route.path)
        first = next(one for one in ROUTES if one.method == route.method and one.pattern.fullmatch(concrete))
        assert first is route


def _unknown(known: dict[str, Spec], kind: Any, where: str) -> typing.Iterator[str]:
    hints = _hints(kind)
    for name, spec in known.items():
        if name == "payment_method_types" and "allowed_payment_method_types" in known:
            continue  # read only to be refused in Stripe's words
        if name not in hints:
            yield f"{where}{name}"
        elif getattr(spec, "known", None):
            inner = [one for one in _inside(hints[name], kind) if is_typeddict(one)]
            assert inner, f"{where}{name}"
            found = [list(_unknown(spec.known, one, f"{where}{name}.")) for one in inner]  # type: ignore[attr-defined]
            yield from min(found, key=len)


def _params(name: str) -> Any:
    module, _, bare = name.rpartition(".")
    return getattr(import_module(f"{params.__name__}.{module}") if module else params, bare)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in getattr(kind, "__orig_bases__", ()):
        if is_typeddict(base):
            found |= _hints(base)
    return found | dict(kind.__annotations__)


def _inside(hint: Any, kind: Any) -> list[Any]:
    """All types that a hint names, however deep."""
    if isinstance(hint, typing.ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        names = {**vars(import_module(kind.__module__)), **vars(typing)}
        return [one for word in re.findall(r"\w+", hint) if word in names for one in _inside(names[word], kind)]
    return [hint, *(one for argument in get_args(hint) for one in _inside(argument, kind))]
