"""What Stripe is sent, by what we order. Plain, so that a repeat is the same to the byte."""

from typing import Any

from chappe_billing.payments.models import Method
from chappe_billing.payments.port import (
    Charge,
    MakeCustomer,
    OpenCheckout,
    OpenSetup,
    PayBack,
    ReportUsage,
    Sending,
    SendInvoice,
)
from chappe_billing.payments.stripe_reading import PAYMENT, REFUND, TENANT, Json

_WIRE = {Method.CARD: "card", Method.SEPA_DEBIT: "sepa_debit", Method.BANK_TRANSFER: "customer_balance"}
_TRANSFER_COUNTRIES = frozenset({"BE", "DE", "ES", "FR", "IE", "NL"})
"""Where the service has accounts to transfer to."""


def customer_params(order: MakeCustomer, mark: Json) -> Any:
    return {"name": order.name, "metadata": {**mark, TENANT: order.tenant}}


def checkout_params(order: OpenCheckout, customer: str, mark: Json) -> Any:
    metadata = {**mark, PAYMENT: order.payment}
    intent: dict[str, Any] = {"metadata": metadata, "description": order.description}
    if order.save:
        intent["setup_future_usage"] = "off_session"
    params: dict[str, Any] = {
        "mode": "payment",
        "customer": customer,
        "client_reference_id": order.payment,
        "metadata": metadata,
        "payment_intent_data": intent,
        "allowed_payment_method_types": [_WIRE[order.method]],
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": order.currency.lower(),
                    "unit_amount": order.gross_minor,
                    "product_data": {"name": order.description},
                },
            }
        ],
        "success_url": order.return_url,
        "cancel_url": order.return_url,
    }
    if order.method is Method.BANK_TRANSFER:
        params["payment_method_options"] = {"customer_balance": _transfer(order.country)}
    return params


def _transfer(country: str | None) -> Json:
    return {
        "funding_type": "bank_transfer",
        "bank_transfer": {
            "type": "eu_bank_transfer",
            "eu_bank_transfer": {"country": country if country in _TRANSFER_COUNTRIES else "IE"},
        },
    }


def setup_params(order: OpenSetup, customer: str, mark: Json) -> Any:
    return {
        "mode": "setup",
        "customer": customer,
        "currency": order.currency.lower(),
        "metadata": mark,
        "setup_intent_data": {"metadata": mark},
        "allowed_payment_method_types": [_WIRE[method] for method in order.methods],
        "success_url": order.return_url,
        "cancel_url": order.return_url,
    }


def charge_params(order: Charge, customer: str, mark: Json) -> Any:
    return {
        "amount": order.gross_minor,
        "currency": order.currency.lower(),
        "customer": customer,
        "payment_method": order.method_id,
        "allowed_payment_method_types": [_WIRE[order.method]],
        "off_session": True,
        "confirm": True,
        "description": order.description,
        "metadata": {**mark, PAYMENT: order.payment},
    }


def refund_params(order: PayBack, mark: Json) -> Any:
    return {
        "payment_intent": order.intent_id,
        "amount": order.gross_minor,
        "metadata": {**mark, REFUND: order.refund},
    }


def invoice_params(order: SendInvoice, customer: str, mark: Json) -> Any:
    return {
        "customer": customer,
        "collection_method": "send_invoice",
        "days_until_due": order.days_until_due,
        "currency": order.currency.lower(),
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "description": order.description,
        "metadata": {**mark, PAYMENT: order.payment},
        "payment_settings": {
            "payment_method_types": ["customer_balance"],
            "payment_method_options": {"customer_balance": _transfer(order.country)},
        },
    }


def usage_params(order: ReportUsage, customer: str, sending: Sending) -> Any:
    return {
        "event_name": order.meter,
        "identifier": str(sending.call_id),
        "timestamp": int(order.at.timestamp()),
        "payload": {"stripe_customer_id": customer, "value": str(order.value)},
    }
