"""`/console/invoices/{id}`: an invoice as it was issued, its payments, giving it up, and taking it back."""

from typing import Any, Final

from litestar import Response, get, post
from litestar.params import FromPath
from litestar.response import Redirect

from chappe_billing.credit_notes.service import credit
from chappe_billing.invoices.service import settle_invoice, write_off_invoice
from chappe_billing.ledger.postings import Rail
from chappe_control.console.invoices.texts import PROBLEMS, RAILS, REFUSED
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.console.tenants.queries import read_tenant_names
from chappe_control.origins import origin_of
from chappe_control.pages.flash import flash
from chappe_control.pages.forms import WHOLE_FORM, Form, read_fields
from chappe_control.pages.invoices import read_invoice_page
from chappe_control.pages.languages import N_, translate
from chappe_control.permissions import Permission
from chappe_control.public.references import id_in_path
from chappe_control.state import Given, Services
from chappe_kernel.errors import Conflict, Invalid
from chappe_kernel.ids import INVOICE, encode_id
from chappe_kernel.money import parse_nano
from chappe_store.queries import read_now

# The framework's type wants the number itself.
_SEE_OTHER: Final = 303
_MOST_DIGITS = 10
_FIELD_OF = {"invalid_amount": "amount", "reference_taken": "reference"}
"""Which field an error is about that names none."""
_LOSS_FIELDS = {"amount": "loss", "reference": "loss_reference", "reason": "loss_reason"}
"""What the form of a write-off calls them."""


@get("/invoices/{invoice_id:str}", permission=Permission.SEE_INVOICES)
async def show_invoice(request: ConsoleRequest, services: Given, invoice_id: FromPath[str]) -> Response[bytes]:
    return await _page(request, services, invoice_id, {})


@post("/invoices/{invoice_id:str}/payments", permission=Permission.MANAGE_INVOICES)
async def pay(request: ConsoleRequest, services: Given, invoice_id: FromPath[str]) -> Response[Any]:
    """Of a part of it, or of more: the rest is the payer's. Once for each reference."""
    invoice = id_in_path(INVOICE, invoice_id, "invoice")
    typed = await read_fields(request, "amount", "reference", "rail")
    try:
        amount_nano, rail = parse_nano(typed["amount"].strip().replace(",", ".")), _rail(typed["rail"])
        async with services.database.operator(origin_of(request)) as session:
            done = await settle_invoice(
                session, invoice, amount_nano=amount_nano, reference=typed["reference"], rail=rail
            )
    except (Invalid, Conflict) as error:
        return await _page(request, services, invoice_id, {"payment": typed}, error)
    told = N_("This payment was recorded before.") if done.repeated else N_("The payment is recorded.")
    return _done(request, invoice_id, told)


@post("/invoices/{invoice_id:str}/credit-notes", permission=Permission.MANAGE_INVOICES)
async def take_back(request: ConsoleRequest, services: Given, invoice_id: FromPath[str]) -> Response[Any]:
    """As a whole, or some of its lines. Once for each reference."""
    invoice = id_in_path(INVOICE, invoice_id, "invoice")
    typed = await read_fields(request, "credit_reference", "reason", "lines")
    try:
        async with services.database.operator(origin_of(request)) as session:
            note = await credit(
                session,
                invoice,
                reference=typed["credit_reference"],
                reason=typed["reason"],
                lines=_line_numbers(typed["lines"]),
            )
    except (Invalid, Conflict) as error:
        return await _page(request, services, invoice_id, {"credit": typed}, error)
    return _done(request, encode_id(INVOICE, note.id), N_("The credit note is issued."))


@post("/invoices/{invoice_id:str}/write-offs", permission=Permission.MANAGE_INVOICES)
async def give_up(request: ConsoleRequest, services: Given, invoice_id: FromPath[str]) -> Response[Any]:
    """What is open of it, or a part of that. Once for each reference."""
    invoice = id_in_path(INVOICE, invoice_id, "invoice")
    typed = await read_fields(request, *_LOSS_FIELDS.values(), "reclaims_tax", "confirmed")
    try:
        _check_confirmed(typed)
        amount = typed["loss"].strip().replace(",", ".")
        async with services.database.operator(origin_of(request)) as session:
            done = await write_off_invoice(
                session,
                invoice,
                amount_nano=parse_nano(amount) if amount else None,
                reference=typed["loss_reference"],
                reason=typed["loss_reason"],
                reclaims_tax=bool(typed["reclaims_tax"]),
            )
    except (Invalid, Conflict) as error:
        return await _page(request, services, invoice_id, {"write_off": typed}, error)
    told = N_("This was written off before.") if done.repeated else N_("It is written off.")
    return _done(request, invoice_id, told)


def _done(request: ConsoleRequest, invoice_id: str, told: str) -> Response[Any]:
    response = Redirect(f"/console/invoices/{invoice_id}", status_code=_SEE_OTHER)
    flash(response, translate(request, told), "green")
    return response


async def _page(
    request: ConsoleRequest,
    services: Services,
    invoice_id: str,
    typed: dict[str, dict[str, str]],
    error: Invalid | Conflict | None = None,
) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        shown = await read_invoice_page(session, invoice_id, tenant_id=None)
        names = await read_tenant_names(session, [shown["document"].tenant_id])
    forms = {
        name: Form(typed.get(name, {}), _errors(request, error, typed[name]) if error and name in typed else {})
        for name in ("payment", "credit", "write_off")
    }
    status = 200 if error is None else 409 if isinstance(error, Conflict) else 400
    return console_page(
        request, "console/invoice.html", status=status, now=now, names=names, forms=forms, rails=RAILS, **shown
    )


def _errors(request: ConsoleRequest, error: Invalid | Conflict, typed: dict[str, str]) -> dict[str, str]:
    """At the field that is to blame. The forms on one page have the same fields by different names."""
    blamed = error.param or _FIELD_OF.get(error.code, WHOLE_FORM)
    field = blamed
    if "loss" in typed:
        field = _LOSS_FIELDS.get(blamed, blamed)
    elif blamed == "reference" and "credit_reference" in typed:
        field = "credit_reference"
    text = PROBLEMS.get(error.code) or PROBLEMS.get(field) or PROBLEMS.get(blamed, REFUSED)
    return {field if field in typed else WHOLE_FORM: translate(request, text)}


def _check_confirmed(typed: dict[str, str]) -> None:
    """Raises `Invalid`."""
    if not typed["confirmed"]:
        raise Invalid("not confirmed", param="confirmed")


def _rail(text: str) -> Rail:
    try:
        return Rail(text)
    except ValueError:
        raise Invalid("no such way to pay", param="rail") from None


def _line_numbers(text: str) -> list[int] | None:
    """`1, 3`; nothing is all of them. Raises `Invalid`."""
    parts = text.replace(",", " ").split()
    if not all(part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in parts):
        raise Invalid("no numbers of lines", param="lines")
    return [int(part) for part in parts] or None
