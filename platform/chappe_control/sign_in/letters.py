"""The letters about signing up and in.

Whether an address has an account is looked up here, when the letter is written, and nowhere in the request that asked
for it: there is nothing in the answer, or in the time that it takes, that could tell.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from chappe_control.mail.letters import Action, Letter
from chappe_control.mail.orders import Order
from chappe_control.mail.service import Writer
from chappe_control.pages.languages import N_, translate_into
from chappe_store.session import NOBODY, Database
from chappe_tenants.accounts.queries import find_account


class Kind(StrEnum):
    """What a letter is about. Its values are the URLs that it holds."""

    SIGN_UP = "sign_up"
    RESET = "password_reset"
    CHANGED = "password_changed"


_IF_NOT_YOU: Final = N_("If this was not you, you need not do anything.")


async def write_sign_up(database: Database, order: Order) -> Letter:
    """The link, or that there is an account: only whoever reads the mailbox learns which."""
    return _known(order) if await _has_account(database, order.to) else _new(order)


async def write_password_reset(database: Database, order: Order) -> Letter | None:
    """Nothing to an address without an account: nobody gets mail of ours because a stranger typed their address."""
    if not await _has_account(database, order.to):
        return None
    return _letter(
        order.language,
        N_("Choose a new password"),
        N_("Somebody, hopefully you, has forgotten the password of the account with this address."),
        action=(N_("Choose a new password"), order.values["reset_url"]),
        notes=(N_("The link works once, within an hour."), _IF_NOT_YOU),
    )


async def write_password_changed(_: Database, order: Order) -> Letter:
    return _letter(
        order.language,
        N_("Your password was changed"),
        N_("The password of your account has just been changed, and whoever was signed in with it is signed out."),
        N_("If this was not you, choose a new password at once, and tell your organisation's owner."),
        action=(N_("Choose a new password"), order.values["forgot_url"]),
    )


WRITERS: Final[Mapping[str, Writer]] = {
    Kind.SIGN_UP: write_sign_up,
    Kind.RESET: write_password_reset,
    Kind.CHANGED: write_password_changed,
}


def _new(order: Order) -> Letter:
    return _letter(
        order.language,
        N_("Finish your sign-up"),
        N_("Somebody, hopefully you, wants to open an account with this address."),
        N_("Follow this link and choose a password. Only then the account and your organisation are created."),
        action=(N_("Finish the sign-up"), order.values["sign_up_url"]),
        notes=(N_("The link works once, within 24 hours."), _IF_NOT_YOU),
    )


def _known(order: Order) -> Letter:
    return _letter(
        order.language,
        N_("You have an account already"),
        N_("Somebody, hopefully you, wants to open an account with this address. There is one: sign in with it."),
        N_("If you have forgotten your password, you can choose a new one from the sign-in page."),
        action=(N_("Sign in"), order.values["sign_in_url"]),
        notes=(_IF_NOT_YOU,),
    )


async def _has_account(database: Database, email: str) -> bool:
    async with database.tenant(NOBODY) as session:
        return await find_account(session, email) is not None


def _letter(
    language: str, subject: str, *paragraphs: str, action: tuple[str, str], notes: tuple[str, ...] = ()
) -> Letter:
    label, url = action
    return Letter(
        translate_into(language, subject),
        tuple(translate_into(language, text) for text in paragraphs),
        Action(translate_into(language, label), url),
        tuple(translate_into(language, text) for text in notes),
    )
