"""The roles of members in words."""

from chappe_control.pages.languages import N_
from chappe_tenants.members.service import Role

MEMBER_ROLES = {
    Role.OWNER: N_("Owner"),
    Role.ADMIN: N_("Admin"),
    Role.DEVELOPER: N_("Developer"),
    Role.BILLING: N_("Billing"),
    Role.VIEWER: N_("Viewer"),
}
MEMBER_ROLE_TEXTS = {
    Role.OWNER: N_("May do everything, and makes and removes owners."),
    Role.ADMIN: N_("May do everything, except for owners."),
    Role.DEVELOPER: N_("Makes keys, tries models in the playground, and sees usage and the balance."),
    Role.BILLING: N_("Sees usage, the balance and what there is to pay."),
    Role.VIEWER: N_("Looks on: sees keys, usage and settings, and changes nothing."),
}
