"""Collecting issued invoices: by the saved method, or else by a bank transfer that the service takes in."""

from datetime import date, timedelta
from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.budgets import queries as budgets
from chappe_billing.dunning.service import RETRY_WANTED
from chappe_billing.invoices.queries import OpenInvoice, find_open_invoice, open_invoices
from chappe_billing.payments import cash_queries, collecting_queries, method_queries, queries
from chappe_billing.payments.amounts import can_be_charged, nano_per_minor
from chappe_billing.payments.calling import order
from chappe_billing.payments.models import Method, PaymentState, Purpose
from chappe_billing.payments.origin import payment_origin
from chappe_billing.payments.port import Charge, SendInvoice, WithdrawInvoice
from chappe_billing.payments.queries import Payer
from chappe_billing.payments.service import collecting_payer, methods_for
from chappe_kernel.errors import ChappeError, Conflict, NotFound
from chappe_kernel.ids import PAYMENT, TenantId, encode_id, new_id
from chappe_store import outbox
from chappe_store.outbox import Claimed
from chappe_store.queries import read_now
from chappe_store.session import Database, TenantScope

_PAGE = 200
_LEASE = timedelta(minutes=2)


class _Wanted(Struct, frozen=True):
    invoice_id: UUID


async def collect_all(database: Database) -> int:
    """Begin the first payment of each open invoice; how many those were. Any number of processes may do so."""
    begun = 0
    after: UUID | None = None
    while True:
        async with database.operator() as session:
            page = await open_invoices(session, limit=_PAGE, after=after)
            wanted = await collecting_queries.list_collectable(session, [invoice.id for invoice in page])
        for invoice in page:
            if invoice.id in wanted:
                begun += await _collect(database, invoice)
        if len(page) < _PAGE:
            return begun
        after = page[-1].id


async def _collect(database: Database, invoice: OpenInvoice) -> bool:
    try:
        async with database.operator(payment_origin()) as session:
            return await begin(session, invoice.id)
    except (ChappeError, IntegrityError):
        # Another process began it, or nothing can be charged. It is looked at again.
        return False


async def collect_again(database: Database) -> int:
    """Begin another payment of each invoice for which dunning wants one; how many wishes those were. Each is granted in
    the transaction that ends it: once, and not at all when the invoice is paid, or being paid, by then."""
    async with database.operator() as session:
        claimed = await outbox.claim_due(session, RETRY_WANTED, lease=_LEASE, limit=_PAGE)
    for message in claimed:
        await _grant(database, message)
    return len(claimed)


async def _grant(database: Database, message: Claimed) -> None:
    try:
        async with database.operator(payment_origin()) as session:
            if await outbox.hold(session, message.id):
                await begin(session, msgspec.convert(message.payload, _Wanted).invoice_id)
                await outbox.mark_delivered(session, message.id)
    except (Conflict, NotFound, msgspec.ValidationError):
        # Its seller collects by the service no more, or the tenant cannot be charged: nobody is asked.
        async with database.operator() as session:
            if await outbox.hold(session, message.id):
                await outbox.give_up(session, message.id)


async def withdraw_all(database: Database) -> int:
    """Ask no more for what was settled otherwise; how many requests are withdrawn. Any number of processes may do so.
    What is left of an invoice is asked for anew."""
    async with database.operator() as session:
        found = await collecting_queries.list_superfluous(session, limit=_PAGE)
    return sum([await _withdraw(database, payment_id) for payment_id in found])


async def _withdraw(database: Database, payment_id: UUID) -> bool:
    try:
        async with database.operator(payment_origin()) as session:
            return await withdraw(session, payment_id)
    except (ChappeError, IntegrityError):
        # Another process does so.
        return False


async def withdraw(session: AsyncSession, payment_id: UUID) -> bool:
    """As the operator: the service is told, once, that nobody is to pay this. False where it is wanted, or is no
    request that anybody could still pay."""
    payment = await queries.find_any_payment(session, payment_id)
    if payment is None:
        return False
    await budgets.lock_budgets(session, [payment.tenant_id])
    payment = await queries.lock_payment(session, payment_id)
    unwanted = await collecting_queries.list_unwanted(session, [payment_id])
    if payment.state != PaymentState.OPEN or payment.session_id is None or payment_id not in unwanted:
        return False
    payer = await collecting_payer(session, TenantScope(TenantId(payment.tenant_id)))
    what = WithdrawInvoice(payment=encode_id(PAYMENT, payment_id), invoice=payment.session_id)
    await order(session, payer, what, payment_id=payment_id)
    return True


async def begin(session: AsyncSession, invoice_id: UUID) -> bool:
    """As the operator: ask for what is open of the invoice. False when there is nothing to ask for, it is being
    paid, or there is no way to. Raises `Conflict` (`payments_not_offered`)."""
    invoice = await find_open_invoice(session, invoice_id)
    if invoice is None:
        return False
    await budgets.lock_budgets(session, [invoice.tenant_id])
    invoice = await find_open_invoice(session, invoice_id)
    if invoice is None or invoice.open_nano <= 0 or await collecting_queries.is_under_way(session, invoice_id):
        return False
    scope = TenantScope(TenantId(invoice.tenant_id))
    payer = await collecting_payer(session, scope)
    attempt = await collecting_queries.count_attempts(session, invoice_id) + 1
    today = (await read_now(session)).date()
    payment_id = new_id()
    told = await _tell(session, scope, payer, invoice, payment_id=payment_id, today=today)
    if told is None:
        return False
    method, what = told
    gross_minor = what.gross_minor
    values = {
        "tenant_id": invoice.tenant_id,
        "id": payment_id,
        "legal_entity_id": payer.legal_entity_id,
        "purpose": Purpose.INVOICE,
        "invoice_id": invoice_id,
        "method": method,
        "currency": invoice.currency,
        "net_nano": gross_minor * nano_per_minor(invoice.currency),
        "tax_nano": 0,
        "gross_minor": gross_minor,
        "attempt": attempt,
    }
    await queries.insert_payment(session, values)
    await order(session, payer, what, payment_id=payment_id)
    return True


async def _tell(
    session: AsyncSession, scope: TenantScope, payer: Payer, invoice: OpenInvoice, *, payment_id: UUID, today: date
) -> tuple[Method, Charge | SendInvoice] | None:
    gross_minor = invoice.open_nano // nano_per_minor(invoice.currency)
    if not can_be_charged(gross_minor, invoice.currency):
        # It stays open: for a transfer by hand, or until the operator gives it up.
        return None
    public = encode_id(PAYMENT, payment_id)
    methods = await method_queries.list_chargeable(session, scope)
    if methods:
        method = Method(methods[0].kind)
        return method, Charge(
            payment=public,
            gross_minor=gross_minor,
            currency=invoice.currency,
            method=method,
            method_id=methods[0].service_id,
            description=f"Invoice {invoice.number}",
        )
    if Method.BANK_TRANSFER not in methods_for(invoice.currency):
        return None
    return Method.BANK_TRANSFER, SendInvoice(
        payment=public,
        # What lies there is counted already, and the service takes it first.
        gross_minor=gross_minor + max(0, await cash_queries.sum_cash(session, scope.tenant_id)),
        currency=invoice.currency,
        description=f"Invoice {invoice.number}",
        days_until_due=max(1, 0 if invoice.due_on is None else (invoice.due_on - today).days),
        country=payer.country,
    )
