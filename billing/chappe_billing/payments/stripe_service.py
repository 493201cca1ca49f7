"""The payment service that is Stripe, by its own SDK. Nothing else of ours knows Stripe's API.

The SDK itself retries nothing: the calls' own table does, over restarts. An error's text is never passed on: Stripe's
may quote what was sent.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
import stripe
from msgspec import Struct
from stripe import HTTPXClient, StripeClient, StripeError
from stripe import _error as errors
from stripe._base_address import BaseAddresses

from chappe_billing.payments.port import (
    Answer,
    AnyOrder,
    CashSeen,
    Charge,
    Event,
    ForgetMethod,
    Impossible,
    MakeCustomer,
    MethodsSeen,
    NotGenuine,
    OpenCheckout,
    OpenSetup,
    PayBack,
    PaymentSeen,
    Refused,
    ReportUsage,
    RequestSeen,
    RequestState,
    Seen,
    Sending,
    SendInvoice,
    Subject,
    TryLater,
    WithdrawInvoice,
)
from chappe_billing.payments.stripe_parameters import (
    charge_params,
    checkout_params,
    customer_params,
    invoice_params,
    refund_params,
    setup_params,
    usage_params,
)
from chappe_billing.payments.stripe_reading import (
    CALL,
    PAYMENT,
    Json,
    read_checkout,
    read_dispute,
    read_event,
    read_method,
    read_move,
    read_payment,
    read_refund,
    read_request,
)
from chappe_kernel.errors import Invalid

_TIMEOUT_S = 20.0
_TOLERANCE_S = 300
_PAGE = 100
_MOST_PAGES = 50
_TOO_MANY = 429
_CONFLICT = 409
_SERVER = 500
_MISSING = 404


class StripeSettings(Struct, frozen=True):
    """`api_base` is another address than Stripe's own, for a stand-in. None of it is shown."""

    api_key: str
    webhook_secret: str
    api_base: str = ""
    account: str = ""

    def __repr__(self) -> str:
        return "StripeSettings(…)"

    def check(self) -> None:
        """Raises `Invalid` for settings that cannot work, without showing any of them."""
        if self.api_base and urlsplit(self.api_base).scheme not in {"http", "https"}:
            name = "CHAPPE_STRIPE_API_BASE"
            raise Invalid(f"{name} must be a URL", code="invalid_setting", param=name)
        if not self.api_base and not self.api_key.startswith(("sk_", "rk_")):
            name = "CHAPPE_STRIPE_API_KEY"
            raise Invalid(f"{name} is no secret key", code="invalid_setting", param=name)

    @property
    def live(self) -> bool:
        """Whether real money moves, as the key says."""
        return "_live_" in self.api_key


class _HttpClient(HTTPXClient):
    """The SDK's, in httpx's present words."""

    def _get_request_args_kwargs(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any
    ) -> list[tuple[str, ...] | dict[str, Any]]:
        args, named = super()._get_request_args_kwargs(method, url, headers, post_data)
        return [args, {**named, "content": named["data"] or b"", "data": None}]


class StripeService:
    """A `PaymentService`. It connects when it is first used."""

    def __init__(self, settings: StripeSettings) -> None:
        stripe.enable_telemetry = False
        self._settings = settings
        self._http = _HttpClient(timeout=_TIMEOUT_S)
        self._client = StripeClient(
            settings.api_key,
            base_addresses=_addresses(settings.api_base),
            http_client=self._http,
            max_network_retries=0,
        )

    def __repr__(self) -> str:
        return "StripeService(…)"

    async def perform(self, sending: Sending) -> Answer:
        options = {"idempotency_key": sending.key}
        async with _errors():
            return await self._perform(sending, options)

    async def find(self, sending: Sending, since: datetime) -> Answer | None:
        async with _errors():
            return await self._find(sending, since)

    async def look(self, subject: Subject, object_id: str) -> Seen | None:
        async with _errors():
            return await self._look(subject, object_id)

    async def open_portal(self, customer: str, return_url: str) -> str:
        async with _errors():
            made = await self._client.v1.billing_portal.sessions.create_async(
                {"customer": customer, "return_url": return_url}
            )
        return made.url

    async def list_events(self, since: datetime) -> list[Event]:
        async with _errors():
            found = [
                event
                async for event in self._pages(
                    self._client.v1.events.list_async, {"created": {"gte": int(since.timestamp())}}
                )
            ]
        return sorted((read_event(event) for event in found), key=lambda event: event.happened_at)

    def read_event(self, raw: bytes, signature: str | None) -> Event:
        try:
            # Without a secret it refuses everything.
            stripe.WebhookSignature.verify_header(raw, signature, self._settings.webhook_secret, _TOLERANCE_S)
            event = read_event(msgspec.json.decode(raw))
        except (StripeError, ValueError, Impossible) as error:
            raise NotGenuine(type(error).__name__) from error
        if event.live is not self._settings.live:
            raise NotGenuine("of the other mode")
        if self._settings.account and event.account not in {None, self._settings.account}:
            raise NotGenuine("of another account")
        return event

    async def close(self) -> None:
        await self._http.close_async()  # type: ignore[no-untyped-call]  # the SDK does not say

    async def _perform(self, sending: Sending, options: Any) -> Answer:  # noqa: PLR0911 -- one for each kind of order
        order, customer = sending.order, sending.customer or ""
        mark = {CALL: str(sending.call_id)}
        match order:
            case MakeCustomer():
                made: Any = await self._client.v1.customers.create_async(customer_params(order, mark), options)
                return Answer(made.id)
            case OpenCheckout():
                made = await self._client.v1.checkout.sessions.create_async(
                    checkout_params(order, customer, mark), options
                )
                return Answer(made.id, made.url)
            case OpenSetup():
                made = await self._client.v1.checkout.sessions.create_async(
                    setup_params(order, customer, mark), options
                )
                return Answer(made.id, made.url)
            case Charge():
                made = await self._client.v1.payment_intents.create_async(charge_params(order, customer, mark), options)
                return _paid(_plain(made))
            case PayBack():
                made = await self._client.v1.refunds.create_async(refund_params(order, mark), options)
                return Answer(made.id, seen=read_refund(_plain(made)))
            case ForgetMethod():
                return await self._forget(order, options)
            case SendInvoice():
                return await self._send_invoice(sending, order, customer, mark)
            case WithdrawInvoice():
                return await self._withdraw(order, options)
            case ReportUsage():
                await self._client.v1.billing.meter_events.create_async(usage_params(order, customer, sending), options)
                return Answer(str(sending.call_id))

    async def _forget(self, order: ForgetMethod, options: Any) -> Answer:
        found = _plain(await self._client.v1.payment_methods.retrieve_async(order.method_id))
        if found.get("customer") is not None:
            await self._client.v1.payment_methods.detach_async(order.method_id, options=options)
        return Answer(order.method_id)

    async def _send_invoice(self, sending: Sending, order: SendInvoice, customer: str, mark: Json) -> Answer:
        """Three calls, each with a key of its own: whichever was the last, the next try goes on behind it."""

        def key(step: str) -> Any:
            return {"idempotency_key": f"{sending.key}-{step}"}

        draft = await self._client.v1.invoices.create_async(invoice_params(order, customer, mark), key("draft"))
        item: Any = {
            "customer": customer,
            "invoice": draft.id,
            "amount": order.gross_minor,
            "currency": order.currency.lower(),
            "description": order.description,
        }
        await self._client.v1.invoice_items.create_async(item, key("item"))
        sent = await self._client.v1.invoices.finalize_invoice_async(
            draft.id or "", {"auto_advance": False}, key("finalize")
        )
        return Answer(sent.id or "", sent.hosted_invoice_url)

    async def _withdraw(self, order: WithdrawInvoice, options: Any) -> Answer:
        """It looks before and after: who pays meanwhile has paid, and is said to have."""
        seen = await self._request(order.invoice)
        if seen.state is RequestState.OPEN:
            try:
                await self._client.v1.invoices.void_invoice_async(order.invoice, options=options)
            except errors.InvalidRequestError:
                again = await self._request(order.invoice)
                if again.state is RequestState.OPEN:
                    raise
                return Answer(order.invoice, seen=again)
            seen = await self._request(order.invoice)
        return Answer(order.invoice, seen=seen)

    async def _find(self, sending: Sending, since: datetime) -> Answer | None:
        order, created = sending.order, {"gte": int(since.timestamp()) - 60}
        if isinstance(order, ForgetMethod | WithdrawInvoice | ReportUsage):
            # The ones look by themselves before they do anything; of the last nobody can tell.
            return await self._cannot_tell(order)
        v1 = self._client.v1
        listing: Callable[..., Awaitable[Any]]
        params: dict[str, Any] = {"customer": sending.customer, "created": created}
        match order:
            case MakeCustomer():
                listing, params = v1.customers.list_async, {"created": created}
            case OpenCheckout() | OpenSetup():
                listing = v1.checkout.sessions.list_async
            case Charge():
                listing = v1.payment_intents.list_async
            case PayBack():
                listing, params = v1.refunds.list_async, {"payment_intent": order.intent_id}
            case SendInvoice():
                listing = v1.invoices.list_async
        async for found in self._pages(listing, params):
            # An invoice that was never finished was never sent either.
            if (found.get("metadata") or {}).get(CALL) == str(sending.call_id) and found.get("status") != "draft":
                return _found(order, found)
        return None

    async def _cannot_tell(self, order: AnyOrder) -> Answer | None:
        if isinstance(order, ReportUsage):
            raise Impossible("a meter event is a day old, and whether it was counted cannot be asked")
        return None

    async def _look(self, subject: Subject, object_id: str) -> Seen | None:  # noqa: PLR0911 -- one for each subject
        v1 = self._client.v1
        try:
            match subject:
                case Subject.CHECKOUT:
                    params: Any = {"expand": ["payment_intent", "payment_intent.payment_method"]}
                    return read_checkout(_plain(await v1.checkout.sessions.retrieve_async(object_id, params)))
                case Subject.PAYMENT:
                    return await self._payment(object_id)
                case Subject.REFUND:
                    return read_refund(_plain(await v1.refunds.retrieve_async(object_id)))
                case Subject.DISPUTE:
                    return read_dispute(_plain(await v1.disputes.retrieve_async(object_id)))
                case Subject.METHODS:
                    return await self._methods(object_id)
                case Subject.CASH:
                    return await self._cash(object_id)
                case Subject.INVOICE:
                    return await self._request(object_id)
        except errors.InvalidRequestError as error:
            if error.http_status == _MISSING:
                return None
            raise

    async def _methods(self, customer: str) -> MethodsSeen:
        listing = self._client.v1.payment_methods.list_async
        found = [read_method(method) async for method in self._pages(listing, {"customer": customer})]
        return MethodsSeen(customer, tuple(method for method in found if method is not None))

    async def _cash(self, customer: str) -> CashSeen:
        listing = partial(self._client.v1.customers.cash_balance_transactions.list_async, customer)
        found = [read_move(one) async for one in self._pages(listing, {})]
        return CashSeen(customer, tuple(reversed(found)))

    async def _payment(self, intent_id: str) -> PaymentSeen:
        """What pays an invoice that we sent is made by the service, and bears no mark of ours: the invoice does."""
        v1 = self._client.v1
        intent = await v1.payment_intents.retrieve_async(intent_id, {"expand": ["payment_method"]})
        seen = read_payment(_plain(intent))
        if seen.payment is not None:
            return seen
        pays: Any = {"payment": {"type": "payment_intent", "payment_intent": intent_id}, "limit": 1}
        for payment in (await v1.invoice_payments.list_async(pays)).data:
            invoice = _plain(await v1.invoices.retrieve_async(str(_plain(payment)["invoice"])))
            return msgspec.structs.replace(seen, payment=(invoice.get("metadata") or {}).get(PAYMENT))
        return seen

    async def _request(self, invoice_id: str) -> RequestSeen:
        """An invoice that we sent, with what paid it: as much as was asked for, by the invoice's own word."""
        invoice = _plain(await self._client.v1.invoices.retrieve_async(invoice_id))
        request = read_request(invoice)
        if request.payment is None or request.state is not RequestState.PAID:
            return request
        paid = await self._client.v1.invoice_payments.list_async({"invoice": invoice_id, "status": "paid"})
        intents = [(_plain(one).get("payment") or {}).get("payment_intent") for one in paid.data]
        seen = [await self._payment(str(intent)) for intent in intents if intent]
        if len(seen) != 1:
            raise Impossible("an invoice that was paid in several parts")
        return read_request(invoice, msgspec.structs.replace(seen[0], payment=request.payment))

    @staticmethod
    async def _pages(listing: Callable[..., Awaitable[Any]], params: Mapping[str, Any]) -> AsyncIterator[Json]:
        """All of a list, as far as anybody should have to look."""
        after: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            found = await listing({**params, "limit": _PAGE, **after})
            for one in found.data:
                yield _plain(one)
            if not found.has_more:
                return
            after = {"starting_after": found.data[-1].id}
        raise Impossible("a list without end")


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    """Stripe's errors as ours, without Stripe's words: they may quote what was sent."""
    try:
        yield
    except StripeError as error:
        raise _translated(error) from None


def _translated(error: StripeError) -> Exception:
    status, request = error.http_status or 0, error.request_id or "-"
    detail = f"{type(error).__name__} {status} {error.code or '-'} ({request})"
    if isinstance(error, errors.CardError):
        declined = getattr(error.error, "decline_code", None) or error.code or "declined"
        return Refused(str(declined))
    if isinstance(error, errors.AuthenticationError | errors.PermissionError):
        # The operator's settings are wrong, and will be right: nothing is lost until then.
        return TryLater(detail)
    if isinstance(error, errors.IdempotencyError):
        return Impossible(detail)
    if isinstance(error, errors.APIConnectionError | errors.RateLimitError):
        return TryLater(detail, retry_after_s=_retry_after(error))
    if status in {_TOO_MANY, _CONFLICT} or status >= _SERVER or status == 0:
        return TryLater(detail, retry_after_s=_retry_after(error))
    return Impossible(detail)


def _retry_after(error: StripeError) -> float | None:
    try:
        return float((error.headers or {}).get("retry-after", ""))
    except ValueError:
        return None


def _addresses(base: str) -> BaseAddresses | None:
    return {"api": base, "meter_events": base} if base else None


def _paid(intent: Json) -> Answer:
    return Answer(intent["id"], seen=read_payment(intent))


def _found(order: AnyOrder, found: Json) -> Answer:
    match order:
        case Charge():
            return _paid(found)
        case PayBack():
            return Answer(found["id"], seen=read_refund(found))
        case _:
            return Answer(found["id"], found.get("url") or found.get("hosted_invoice_url"))


def _plain(thing: Any) -> Json:
    """A dictionary through and through, without the SDK's own classes."""
    plain: Json = thing.to_dict(recursive=True)
    return plain
