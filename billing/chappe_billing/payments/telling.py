"""What others hear of payments, by the outbox."""

from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.payments.amounts import nano_per_minor
from chappe_billing.payments.models import Payment
from chappe_billing.payments.queries import Payer
from chappe_kernel.money import format_nano
from chappe_store.outbox import enqueue

FAILED = "payment.failed"
SUCCEEDED = "payment.succeeded"


async def tell_failed(session: AsyncSession, payment: Payment, reason: str) -> None:
    await enqueue(session, FAILED, [{**_about(payment), "reason": reason}])


async def tell_succeeded(session: AsyncSession, payment: Payment, *, credited_nano: int = 0) -> None:
    """`credited_nano` of it is more than was open of the invoice, and the payer's credit."""
    credited = {"credited": format_nano(credited_nano)} if credited_nano else {}
    await enqueue(session, SUCCEEDED, [{**_about(payment), "reason": None, **credited}])


async def tell_deposited(session: AsyncSession, payer: Payer, amount_nano: int) -> None:
    """A transfer brought more than was asked for: it is the payer's credit."""
    amount = format_nano(amount_nano)
    told = {
        "tenant_id": str(payer.tenant_id),
        "invoice_id": None,
        "purpose": "deposit",
        "amount": amount,
        "currency": payer.currency,
        "attempt": 1,
        "reason": None,
        "credited": amount,
    }
    await enqueue(session, SUCCEEDED, [told])


async def tell_disputed(session: AsyncSession, payment: Payment, amount_nano: int) -> None:
    """The bank took so much of an invoice's payment back: to whoever collects that is a payment that failed."""
    about = {**_about(payment), "amount": format_nano(amount_nano)}
    await enqueue(session, FAILED, [{**about, "reason": "disputed"}])


def _about(payment: Payment) -> dict[str, object]:
    return {
        "payment_id": str(payment.id),
        "tenant_id": str(payment.tenant_id),
        "invoice_id": None if payment.invoice_id is None else str(payment.invoice_id),
        "purpose": payment.purpose,
        "amount": format_nano(payment.gross_minor * nano_per_minor(payment.currency)),
        "currency": payment.currency,
        "attempt": payment.attempt,
    }
