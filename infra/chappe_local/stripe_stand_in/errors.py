"""Errors in Stripe's shape."""

from typing import Any, Final

Json = dict[str, Any]

_DOCUMENTED: Final = frozenset(
    {
        "amount_too_small",
        "authentication_required",
        "card_declined",
        "charge_already_refunded",
        "charge_disputed",
        "expired_card",
        "incorrect_cvc",
        "incorrect_number",
        "parameter_invalid_empty",
        "parameter_invalid_integer",
        "parameter_missing",
        "parameter_unknown",
        "payment_intent_unexpected_state",
        "processing_error",
        "rate_limit",
        "resource_missing",
        "setup_intent_unexpected_state",
    }
)


class StripeError(Exception):
    """An answer that is an error. With `keeps_changes` what the call has done until then stays: a declined payment is a
    fact, a refused parameter is none. `details` are more of the error object's fields, such as `payment_intent`."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        keeps_changes: bool = False,
        details: Json | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.keeps_changes = keeps_changes
        optional = {"code": code, "param": param, **(details or {})}
        self.body: Json = {"message": message, "type": kind}
        self.body |= {name: value for name, value in optional.items() if value is not None}
        if code in _DOCUMENTED:
            self.body["doc_url"] = f"https://stripe.com/docs/error-codes/{str(code).replace('_', '-')}"


def invalid(message: str, *, code: str | None = None, param: str | None = None, **details: Any) -> StripeError:
    """400: the call cannot be done as it was asked."""
    return StripeError(400, "invalid_request_error", message, code=code, param=param, details=details)


def missing(noun: str, object_id: str, param: str | None = None) -> StripeError:
    """404 where the path names nothing; 400, as Stripe does, where a parameter does."""
    return StripeError(
        404 if param in (None, "id") else 400,
        "invalid_request_error",
        f"No such {noun}: '{object_id}'",
        code="resource_missing",
        param=param or "id",
    )


def declined(code: str, decline_code: str | None, message: str, **details: Any) -> StripeError:
    """402: the bank said no. What was tried is kept."""
    return StripeError(
        402,
        "card_error",
        message,
        code=code,
        keeps_changes=True,
        details={"decline_code": decline_code, **details},
    )
