"""Hosted pages, whole without scripts: Checkout, the bank's page, the billing portal, invoices, transfers."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from chappe_local.stripe_stand_in import paying
from chappe_local.stripe_stand_in.errors import Json, StripeError
from chappe_local.stripe_stand_in.resources import cash, checkout, invoices, portal, setup_intents
from chappe_local.stripe_stand_in.world import World

_HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
_EXPIRY: Final = re.compile(r"\s*(\d{1,2})\s*/?\s*(\d{2}|\d{4})\s*")
_CENTURY: Final = 2000
_MOST_FIELDS: Final = 30


class Shown(Struct, frozen=True):
    """What the browser gets."""

    status: int
    body: bytes
    headers: dict[str, str]


Page = Callable[..., Shown]


def show(world: World, method: str, path: str, body: bytes) -> Shown:
    """Call it inside a transaction, which is committed whatever comes back."""
    if path == "/style.css":
        return Shown(200, _style(), {**_HEADERS, "content-type": "text/css"})
    if path == "/healthz":
        return Shown(200, b"", _HEADERS)
    typed = dict(parse_qsl(body.decode(errors="replace"), max_num_fields=_MOST_FIELDS)) if method == "POST" else None
    for pattern, page in _pages():
        match = re.fullmatch(pattern, path)
        if match is not None and method in ("GET", "POST"):
            try:
                return page(world, *match.groups(), typed=typed)
            except StripeError:
                break
    return message(404, "There is no such page", "Look at the address, or begin again where you came from.")


def message(status: int, heading: str, *text: str, link: str | None = None, link_text: str = "Back") -> Shown:
    return html("message", status, heading=heading, text=text, link=link, link_text=link_text)


def html(template: str, status: int = 200, **values: Any) -> Shown:
    text = _environment().get_template(f"{template}.html").render(**values)
    return Shown(status, text.encode(), _HEADERS)


def redirect(url: str) -> Shown:
    """303: what was sent is done, and loading again does not send it twice."""
    return Shown(303, b"", {**_HEADERS, "location": url})


def money(amount: int, currency: str) -> str:
    return f"{amount // 100:,}.{amount % 100:02} {currency.upper()}"


def attempted(world: World, act: Callable[[], Any]) -> StripeError | None:
    """Do it. A refusal is shown; what was tried stays or goes as the error says."""
    kept: StripeError | None = None
    try:
        with world.store.attempt():
            try:
                act()
            except StripeError as error:
                if not error.keeps_changes:
                    raise
                kept = error
    except StripeError as error:
        return error
    return kept


def method_data(typed: Mapping[str, str]) -> Json:
    """What the forms of `methods.html` send, as the API would take it."""
    match typed.get("type"):
        case "sepa_debit":
            holder = {"name": typed.get("account_name"), "email": typed.get("email")}
            return {"type": "sepa_debit", "sepa_debit": {"iban": typed.get("iban", "")}, "billing_details": holder}
        case "customer_balance":
            return {"type": "customer_balance"}
        case _:
            expiry = _EXPIRY.fullmatch(typed.get("expiry", ""))
            month, year = (int(expiry[1]), int(expiry[2])) if expiry else (0, 0)
            card: Json = {
                "number": typed.get("number", ""),
                "exp_month": month,
                "exp_year": year if year > _CENTURY else year + _CENTURY,
            }
            if typed.get("cvc"):
                card["cvc"] = typed["cvc"]
            return {"type": "card", "card": card, "billing_details": {"name": typed.get("card_name")}}


def _checkout(world: World, session_id: str, *, typed: dict[str, str] | None) -> Shown:
    session = world.get("checkout.session", session_id)
    error = None
    if typed is not None and session["status"] == "open":
        error = attempted(world, lambda: checkout.pay(world, session, method_data(typed)))
        session = world.get("checkout.session", session_id)
        step = _next_step(world, session)
        if error is None and step is not None:
            return redirect(step)
    if typed is not None and session["status"] == "complete":
        return redirect(_after(world, session))
    return _show_checkout(world, session, typed or {}, error or _last_error(world, session, typed))


def _show_checkout(world: World, session: Json, typed: dict[str, str], error: StripeError | None) -> Shown:
    total, currency = session["amount_total"], session["currency"]
    customer = world.optional("customer", session["customer"]) or {}
    return html(
        "checkout",
        error.status if error and typed else 200,
        session=session,
        amount=None if total is None else money(total, currency),
        lines=[{**line, "amount": money(line["amount_total"], currency)} for line in session["_items"]],
        typed=_Typed(typed),
        error=error,
        back=checkout.return_address(session),
        email=session["customer_email"] or customer.get("email") or "",
        name=customer.get("name") or "",
    )


def _after(world: World, session: Json) -> str:
    """From a completed page: to the account for a transfer, or back to the shop."""
    intent = world.optional("payment_intent", session["payment_intent"])
    if intent is not None and intent["status"] == "requires_action":
        instructions = intent["next_action"]["display_bank_transfer_instructions"]
        return str(instructions["hosted_instructions_url"])
    return checkout.return_address(session) or f"{world.public_url}/c/pay/{session['id']}"


def _next_step(world: World, session: Json) -> str | None:
    """The bank's page, if it wants to see the customer."""
    intent = _intent_of(world, session)
    if session["status"] != "open" or intent is None or intent["status"] != "requires_action":
        return None
    return f"{world.public_url}/authenticate/{intent['id']}/{intent['client_secret']}"


def _last_error(world: World, session: Json, typed: dict[str, str] | None) -> StripeError | None:
    """Why the last attempt failed, for somebody who comes back from the bank's page."""
    intent = _intent_of(world, session)
    if typed is not None or intent is None or session["status"] != "open":
        return None
    last = intent.get("last_payment_error") or intent.get("last_setup_error")
    return None if last is None else StripeError(402, last["type"], last["message"])


def _intent_of(world: World, session: Json) -> Json | None:
    if session["mode"] == "setup":
        return world.get("setup_intent", session["setup_intent"])
    return world.optional("payment_intent", session["payment_intent"])


def _authenticate(world: World, intent_id: str, secret: str, *, typed: dict[str, str] | None) -> Shown:
    kind = "payment_intent" if intent_id.startswith("pi_") else "setup_intent"
    intent = world.get(kind, intent_id)
    if intent["client_secret"] != secret:
        return message(404, "There is no such page")
    is_open = intent["status"] == "requires_action" and not (intent["next_action"] or {}).get(
        "display_bank_transfer_instructions"
    )
    if typed is None or not is_open:
        what = money(intent["amount"], intent["currency"]) if kind == "payment_intent" else "Saving a payment method"
        return html("authenticate", open=is_open, what=what)
    passed = typed.get("answer") == "pass"
    attempted(world, lambda: _authenticated(world, intent, passed=passed))
    return redirect(_where_next(world, world.get(kind, intent_id)))


def _authenticated(world: World, intent: Json, *, passed: bool) -> None:
    if intent["object"] == "payment_intent":
        if passed:
            paying.confirm(world, intent, authenticated=True)
        else:
            paying.fail_authentication(world, intent)
    elif passed:
        setup_intents.confirm_with(world, intent, authenticated=True)
    else:
        raise setup_intents.fail_authentication(world, intent)


def _where_next(world: World, intent: Json) -> str:
    session = world.optional("checkout.session", intent.get("_session"))
    if session is not None:
        page = f"{world.public_url}/c/pay/{session['id']}"
        return checkout.return_address(session) or page if session["status"] == "complete" else page
    noun = str(intent["object"])
    facts = {
        noun: intent["id"],
        f"{noun}_client_secret": intent["client_secret"],
        "redirect_status": "succeeded" if intent["status"] == "succeeded" else "failed",
    }
    target = str(intent.get("_return_url") or f"{world.public_url}/done")
    return f"{target}{'&' if '?' in target else '?'}{urlencode(facts)}"


def _transfer(world: World, intent_id: str, secret: str, *, typed: dict[str, str] | None) -> Shown:
    del typed
    intent = world.get("payment_intent", intent_id)
    action = (intent["next_action"] or {}).get("display_bank_transfer_instructions")
    session = world.optional("checkout.session", intent.get("_session"))
    back = None if session is None else checkout.return_address(session)
    if intent["client_secret"] != secret:
        return message(404, "There is no such page")
    if action is None:
        return message(200, "Nothing is left to be sent", link=back)
    return html(
        "transfer",
        amount=money(action["amount_remaining"], action["currency"]),
        iban=action["financial_addresses"][0]["iban"],
        reference=cash.reference_of(intent),
        back=back,
    )


def _portal(world: World, secret: str, *, typed: dict[str, str] | None) -> Shown:
    session = portal.find(world, secret)
    if session is None:
        return message(404, "This page has expired", "Open it again from where you came.")
    error = None
    if typed is not None:
        error = attempted(world, lambda: _change_methods(world, session, typed))
        if error is None:
            waiting = _setup_waiting(world, session)
            return redirect(waiting or session["url"])
    customer = world.get("customer", session["customer"])
    return html(
        "portal",
        error.status if error else 200,
        action=f"/p/session/{secret}",
        methods=portal.methods_of(world, session),
        return_url=session["return_url"],
        name=customer["name"] or "",
        email=customer["email"] or "",
        typed=_Typed(typed or {}),
        error=error,
    )


def _change_methods(world: World, session: Json, typed: dict[str, str]) -> None:
    if "remove" in typed:
        portal.remove(world, session, typed["remove"])
    elif "default" in typed:
        portal.make_default(world, session, typed["default"])
    else:
        portal.add(world, session, method_data(typed))


def _setup_waiting(world: World, session: Json) -> str | None:
    """The bank's page for the method that was just added, if it wants to see the customer."""
    newest = world.store.select("setup_intent", [("customer", "=", session["customer"])], limit=1)
    if not newest or newest[0]["status"] != "requires_action" or newest[0]["created"] != world.now:
        return None
    return f"{world.public_url}/authenticate/{newest[0]['id']}/{newest[0]['client_secret']}"


def _invoice(world: World, invoice_id: str, *, typed: dict[str, str] | None) -> Shown:
    invoice = invoices.retrieve(world, {}, invoice_id)
    if invoice["status"] == "draft":
        return message(404, "There is no such page")
    intent = world.optional("payment_intent", invoice.get("_intent"))
    error = None
    if typed is not None and invoice["status"] == "open" and intent is not None and intent["status"] != "processing":
        error = attempted(world, lambda: invoices.pay_by_hand(world, invoice, method_data(typed)))
        if error is None:
            after = world.get("payment_intent", intent["id"])
            waits = after["status"] == "requires_action"
            step = f"{world.public_url}/authenticate/{after['id']}/{after['client_secret']}"
            return redirect(step if waits else invoice["hosted_invoice_url"])
    types = (intent or {}).get("payment_method_types", [])
    instructions = ((intent or {}).get("next_action") or {}).get("display_bank_transfer_instructions") or {}
    return html(
        "invoice",
        error.status if error else 200,
        invoice=invoice,
        amount=money(invoice["total"], invoice["currency"]),
        lines=[{**one, "amount": money(one["amount"], one["currency"])} for one in invoice["lines"]["data"]],
        processing=(intent or {}).get("status") == "processing",
        types=[kind for kind in types if kind != "customer_balance"],
        transfer=instructions.get("hosted_instructions_url"),
        typed=_Typed(typed or {}),
        error=error,
    )


def _receipt(world: World, charge_id: str, *, typed: dict[str, str] | None) -> Shown:
    del typed
    charge = world.get("charge", charge_id)
    state = "was paid" if charge["paid"] else "was not paid"
    return message(200, "Receipt of the stand-in", f"{money(charge['amount'], charge['currency'])} {state}.")


def _done(_world: World, *, typed: dict[str, str] | None) -> Shown:
    del typed
    return message(200, "Done", "You may close this page.")


def _home(_world: World, *, typed: dict[str, str] | None) -> Shown:
    del typed
    return message(
        200,
        "A local Stripe",
        "This instance has no payment service, so its control plane talks to this program as if it were one.",
        "Top up in the portal and you come to a page here, where test cards work.",
    )


class _Typed(dict[str, str]):
    """What was typed; nothing for what was not."""

    def __missing__(self, _key: str) -> str:
        return ""


@cache
def _pages() -> tuple[tuple[str, Page], ...]:
    return (
        (r"/", _home),
        (r"/done", _done),
        (r"/c/pay/(cs_[A-Za-z0-9_]+)", _checkout),
        (r"/authenticate/((?:pi|seti)_[A-Za-z0-9]+)/([A-Za-z0-9_]+)", _authenticate),
        (r"/transfer/(pi_[A-Za-z0-9]+)/([A-Za-z0-9_]+)", _transfer),
        (r"/p/session/([A-Za-z0-9]+)", _portal),
        (r"/i/(in_[A-Za-z0-9]+)", _invoice),
        (r"/receipts/((?:ch|py)_[A-Za-z0-9]+)", _receipt),
    )


@cache
def _style() -> bytes:
    return (resources.files("chappe_local.stripe_stand_in") / "templates" / "style.css").read_bytes()


@cache
def _environment() -> Environment:
    loader = PackageLoader("chappe_local.stripe_stand_in")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
