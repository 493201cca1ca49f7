"""The letter that invites somebody: it alone has words that somebody typed, the inviting organisation's name."""

from collections.abc import Mapping
from typing import Final

from chappe_control.mail.letters import Action, Letter
from chappe_control.mail.orders import Order
from chappe_control.mail.service import Writer
from chappe_control.pages.languages import N_, translate_into
from chappe_control.pages.roles import MEMBER_ROLES
from chappe_kernel.errors import NotFound
from chappe_store.session import NOBODY, Database
from chappe_tenants.invitations.service import find_invitation
from chappe_tenants.members.service import Role

INVITATION: Final = "invitation"


async def write_invitation(database: Database, order: Order) -> Letter | None:
    """None if it was withdrawn meanwhile, or sent again: then another letter holds the link."""
    try:
        async with database.tenant(NOBODY) as session:
            found = await find_invitation(session, order.values["secret"])
    except NotFound:
        return None
    language, role = order.language, translate_into(order.language, MEMBER_ROLES[Role(found.role)])
    return Letter(
        translate_into(language, N_("You are invited to “%(organisation)s”"), organisation=found.tenant_name),
        (
            translate_into(
                language,
                N_("A member of the organisation “%(organisation)s” invites you to join it on Chappe, as: %(role)s."),
                organisation=found.tenant_name,
                role=role,
            ),
        ),
        Action(translate_into(language, N_("See the invitation")), order.values["url"]),
        (
            translate_into(language, N_("The link works once, within seven days.")),
            translate_into(language, N_("If you do not know this organisation, ignore this e-mail.")),
        ),
    )


WRITERS: Final[Mapping[str, Writer]] = {INVITATION: write_invitation}
