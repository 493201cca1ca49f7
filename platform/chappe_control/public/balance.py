"""The calling tenant's balance."""

from typing import Annotated

from litestar import get
from msgspec import Meta, Struct

from chappe_billing.balance.queries import Balance, read_balance
from chappe_control.authentication import TenantRequest
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import Amount
from chappe_control.state import Given
from chappe_kernel.money import format_nano


class BalanceView(Struct, frozen=True):
    currency: str
    available: Annotated[Amount, Meta(description="Funds without the credit limit. Falls when usage is settled.")]
    pending: Annotated[Amount, Meta(description="What gateways hold in advance and could still spend.")]
    credit_limit: Amount


@get(
    "/balance",
    tags=["Money"],
    summary="Read the balance",
    operation_id="get_balance",
    responses=answers.READ,
    permission=Permission.READ_BALANCE,
)
async def get_balance(request: TenantRequest, services: Given) -> BalanceView:
    """What the organisation has left, exact to the nano."""
    scope = request.auth.scope
    async with services.database.tenant(scope) as session:
        return show_balance(await read_balance(session, scope))


def show_balance(balance: Balance) -> BalanceView:
    return BalanceView(
        currency=balance.currency,
        available=format_nano(balance.available_nano),
        pending=format_nano(balance.pending_nano),
        credit_limit=format_nano(balance.credit_limit_nano),
    )
