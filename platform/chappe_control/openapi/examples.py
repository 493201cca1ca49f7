"""Values for the document's examples, by the field's name or by `Schema.field`.

A name that is not here, or whose value does not fit, gets what its schema says: an id, an amount, the first of an
enumeration, the least number, its own name as a text.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

ID = "01kbn0gq4we6vtn1x0kf6ccmnq"
TIME = "2026-11-22T09:30:00Z"

BY_PATTERN: Mapping[str, str] = {r"^-?[0-9]+\.[0-9]{9}$": "1.000000000"}

BY_FIELD: Mapping[str, Any] = {
    # Parameters.
    "Idempotency-Key": "order-2026-11-22-0001",
    "If-Match": '"o1HXYzcWfZQ0ePyV3Rn1Tw"',
    "cursor": None,
    "limit": 50,
    "key_id": f"key_{ID}",
    "project_id": f"prj_{ID}",
    "service_account_id": f"sva_{ID}",
    "ServiceAccountView.id": f"sva_{ID}",
    "KeyOwner.kind": "service_account",
    "KeyOwner.id": f"sva_{ID}",
    "predecessor_id": None,
    "member_id": f"mem_{ID}",
    "tenant_id": f"ten_{ID}",
    "token_id": f"otk_{ID}",
    "request_id": f"req_{ID}",
    "price_version": f"prc_{ID}",
    # Money.
    "currency": "EUR",
    "amount": "0.000004200",
    "available": "9.998765432",
    "pending": "0.050000000",
    "credit_limit": "0.000000000",
    "monthly_budget": "250.00",
    "TokenPrices.input": "0.060000000",
    "TokenPrices.cached_input": "0.015000000",
    "TokenPrices.output": "0.210000000",
    "per_request": "0.000000000",
    # Places and models.
    "region": "fr-par",
    "regions": ["fr-par", "DE"],
    "allowed_regions": ["fr-par", "DE"],
    "jurisdiction": "FR",
    "gateway_url": "https://fr-par.example",
    "model": "smollm2-135m-instruct",
    "models": ["smollm2-135m-instruct"],
    "publisher": "huggingface",
    "task": "chat",
    # Keys and tokens.
    "name": "production",
    "prefix": "ck_iAb3d",
    "secret": "ck_iAb3d1zV9kQ3mX7pL2sT8wY4bN6c0R",
    "CreatedToken.secret": "co_Ab3d11zV9kQ3mX7pL2sT8wY4bN6c0R",
    "CreatedToken.prefix": "co_Ab3d1",
    "TokenView.prefix": "co_Ab3d1",
    "key": "ck_iAb3d1zV9kQ3mX7pL2sT8wY4bN6c0R",
    "ReportTaken.status": "taken",
    "networks": ["192.0.2.0/24", "2001:db8::/32"],
    "scopes": ["inference"],
    "overlap_s": 86400,
    "personal": False,
    "archived": False,
    "archived_at": None,
    "expires_at": TIME,
    "revoked_for": None,
    "last_used_region": "fr-par",
    "last_used_network": "203.0.113.0/24",
    "requests_per_minute": 600,
    "lifetime_days": 90,
    "revoked_at": None,
    # People.
    "email": "mia@example.eu",
    "user": "ops@operator.example",
    # Organisations.
    "customer_id": f"ten_{ID}",
    "parent_id": None,
    "country": "FR",
    "Address.line_1": "1 rue de la Paix",
    "Address.line_2": None,
    "Address.postal_code": "75002",
    "city": "Paris",
    "state_by": "operator",
    "vat_number": "FR40303265045",
    "Contact.phone": "+33123456789",
    # The audit log.
    "ActorView.kind": "management_key",
    "ActorView.id": f"key_{ID}",
    "subject": f"key_{ID}",
    "address": "203.0.113.7",
    "action": "changed",
    "noun": "api_key",
    "before": {"revoked_at": None},
    "after": {"revoked_at": TIME},
    "next_cursor": None,
}

PROBLEM_CODES: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "invalid_request",
    HTTPStatus.UNAUTHORIZED: "missing_credentials",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_funds",
    HTTPStatus.FORBIDDEN: "role_denied",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.PRECONDITION_FAILED: "stale",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.PRECONDITION_REQUIRED: "if_match_required",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_exceeded",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
