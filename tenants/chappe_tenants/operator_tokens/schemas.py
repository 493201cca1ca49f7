"""Operator tokens as the API shows them. The secret appears once, in the answer to its creation."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from chappe_kernel.ids import OPERATOR_TOKEN, encode_id
from chappe_tenants.naming import MAX_NAME_LENGTH
from chappe_tenants.operator_tokens.queries import TokenRecord
from chappe_tenants.operator_tokens.service import DEFAULT_LIFETIME_DAYS, MAX_LIFETIME_DAYS
from chappe_tenants.operators.service import OperatorRole

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH, description="Without control characters.")]
Lifetime = Annotated[
    int, Meta(ge=1, le=MAX_LIFETIME_DAYS, description="How long it opens anything. Every token has an end.")
]


class CreateToken(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    role: Annotated[
        OperatorRole | None,
        Meta(description="What it may do: your own role, which is the default, or one that may do less."),
    ] = None
    lifetime_days: Lifetime = DEFAULT_LIFETIME_DAYS


class TokenView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^otk_")]
    user: Annotated[str, Meta(description="The address of whose token it is.")]
    name: str
    role: OperatorRole
    prefix: Annotated[str, Meta(description="The first characters of the secret, to tell tokens apart.")]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Meta(description="To the minute.")]


class CreatedToken(TokenView, frozen=True):
    secret: Annotated[str, Meta(description="Shown this once.")]


def show_token(token: TokenRecord) -> TokenView:
    return TokenView(**_shown(token))


def show_created_token(token: TokenRecord, secret: str) -> CreatedToken:
    return CreatedToken(**_shown(token), secret=secret)


def _shown(token: TokenRecord) -> dict[str, Any]:
    return {
        "id": encode_id(OPERATOR_TOKEN, token.id),
        "user": token.email,
        "name": token.name,
        "role": OperatorRole(token.role),
        "prefix": token.prefix,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
    }
