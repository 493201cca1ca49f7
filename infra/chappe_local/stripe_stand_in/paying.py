"""How a payment intent gets its money, or does not: cards at once, debits later, transfers when they arrive."""

from typing import Final

from chappe_local.stripe_stand_in import instruments
from chappe_local.stripe_stand_in.errors import Json, StripeError, invalid
from chappe_local.stripe_stand_in.instruments import AUTHENTICATION_REQUIRED, DEBIT_FAILED, Refusal
from chappe_local.stripe_stand_in.resources import cash, charges
from chappe_local.stripe_stand_in.resources.payment_methods import attach_to, make_mandate
from chappe_local.stripe_stand_in.world import World, visible

CONFIRMABLE: Final = ("requires_payment_method", "requires_confirmation", "requires_action")


def confirm(world: World, intent: Json, *, off_session: bool = False, authenticated: bool = False) -> Json:
    """Take the money with the intent's payment method. Raises the decline, after everything about it is kept.

    `authenticated`: the customer has just passed the bank's page. Without it a card that asks for that makes an intent
    that requires action, or off session one that failed.
    """
    if intent["status"] not in CONFIRMABLE:
        raise unexpected_state(intent, "confirm")
    if intent["payment_method"] is None:
        raise invalid(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method or ConfirmationToken.",
            code="payment_intent_unexpected_state",
            payment_intent=visible(intent),
        )
    method = world.get("payment_method", intent["payment_method"])
    intent["next_action"] = None
    intent["last_payment_error"] = None
    if method["type"] == "card":
        return _charge_card(world, intent, method, off_session=off_session, authenticated=authenticated)
    if method["type"] == "sepa_debit":
        return _debit(world, intent, method)
    return cash.apply_or_wait(world, intent, method)


def _charge_card(world: World, intent: Json, method: Json, *, off_session: bool, authenticated: bool) -> Json:
    card = instruments.card(method["_number"])
    asks = card.authentication == "always" or (card.authentication == "first" and not method.get("_set_up"))
    if asks and not authenticated:
        if off_session:
            raise _refuse(world, intent, method, AUTHENTICATION_REQUIRED)
        intent["status"] = "requires_action"
        intent["next_action"] = authentication_step(world, intent)
        world.save(intent)
        world.announce("payment_intent.requires_action", intent)
        return intent
    refusal = _switched_refusal(world) or card.refusal
    if refusal is not None:
        raise _refuse(world, intent, method, refusal)
    _save_method(world, intent, method, authenticated=authenticated)
    charge = charges.make(world, intent, world.get("payment_method", method["id"]))
    world.save(charge)
    charges.succeed(world, charge)
    charges.finish(world, intent, charge)
    if card.dispute is not None:
        world.later(0, "dispute", f"{charge['id']} {card.dispute}")
    return intent


def _switched_refusal(world: World) -> Refusal | None:
    """The decline that a switch asks for; one less is left."""
    wanted = world.store.setting(instruments.REFUSED_SETTING, None)
    if not wanted or wanted["times"] <= 0:
        return None
    world.store.set(instruments.REFUSED_SETTING, {**wanted, "times": wanted["times"] - 1})
    return instruments.refusal(wanted["decline_code"])


def authentication_step(world: World, intent: Json) -> Json:
    """Where the customer proves who they are: a page of ours that leads back to the intent's return address."""
    url = f"{world.public_url}/authenticate/{intent['id']}/{intent['client_secret']}"
    if intent.get("_return_url"):
        return {"redirect_to_url": {"return_url": intent["_return_url"], "url": url}, "type": "redirect_to_url"}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": url}}


def fail_authentication(world: World, intent: Json) -> Json:
    """The customer did not pass the bank's page."""
    refusal = Refusal(
        "payment_intent_authentication_failure",
        None,
        "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new "
        "PaymentMethod to attempt to fulfill this PaymentIntent again.",
    )
    return _note_failure(world, intent, world.get("payment_method", intent["payment_method"]), refusal, None)


def _refuse(world: World, intent: Json, method: Json, refusal: Refusal) -> StripeError:
    charge = charges.make(world, intent, method)
    world.save(charge)
    charges.fail(world, charge, refusal)
    _note_failure(world, intent, method, refusal, charge)
    return refusal.error(charge=charge["id"], payment_intent=visible(intent), payment_method=visible(method))


def _note_failure(world: World, intent: Json, method: Json, refusal: Refusal, charge: Json | None) -> Json:
    details = {"charge": charge["id"]} if charge else {}
    error = refusal.error(**details, payment_method=visible(method)).body
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": error,
        "latest_charge": charge["id"] if charge else intent["latest_charge"],
    }
    world.save(intent)
    world.announce("payment_intent.payment_failed", intent)
    world.payment_changed(intent)
    return intent


def _debit(world: World, intent: Json, method: Json) -> Json:
    account = instruments.account(method["_iban"])
    _save_method(world, intent, method, authenticated=True)
    if not world.store.select("mandate", [("payment_method", "=", method["id"])], limit=1):
        make_mandate(world, method)
    charge = charges.make(world, intent, method)
    world.save(charge)
    intent |= {"status": "processing", "latest_charge": charge["id"]}
    world.save(intent)
    world.announce("charge.pending", charge)
    world.announce("payment_intent.processing", intent)
    world.later(account.after_s, "settle_debit", charge["id"])
    return intent


def settle_debit(world: World, charge_id: str) -> None:
    """The bank's word on a debit has come."""
    charge = world.get("charge", charge_id)
    if charge["status"] != "pending":
        return
    intent = world.get("payment_intent", charge["payment_intent"])
    method = world.get("payment_method", charge["payment_method"])
    account = instruments.account(method["_iban"])
    if not account.succeeds:
        charges.fail(world, charge, DEBIT_FAILED)
        _note_failure(world, intent, method, DEBIT_FAILED, charge)
        return
    charges.succeed(world, charge)
    charges.finish(world, intent, charge)
    if account.dispute is not None:
        world.later(0, "dispute", f"{charge_id} {account.dispute}")


def _save_method(world: World, intent: Json, method: Json, *, authenticated: bool) -> None:
    wants = intent["setup_future_usage"] is not None
    if wants and intent["customer"] is not None and method["customer"] is None:
        attach_to(world, method["id"], intent["customer"], authenticated=authenticated)
    elif wants and authenticated and not method.get("_set_up"):
        world.save({**method, "_set_up": True})


def unexpected_state(intent: Json, verb: str) -> StripeError:
    """400: an intent in this state cannot be confirmed, changed or canceled."""
    noun = "PaymentIntent" if intent["object"] == "payment_intent" else "SetupIntent"
    return StripeError(
        400,
        "invalid_request_error",
        f"You cannot {verb} this {noun} because it has a status of {intent['status']}.",
        code=f"{intent['object']}_unexpected_state",
        details={intent["object"]: visible(intent)},
    )
