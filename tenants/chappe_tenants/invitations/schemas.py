"""Invitations as the API shows them. A link is shown once, and only where no mail could take it."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from chappe_kernel.ids import INVITATION, encode_id
from chappe_tenants.invitations.queries import InvitationRecord
from chappe_tenants.members.schemas import GivenRole
from chappe_tenants.members.service import Role
from chappe_tenants.naming import MAX_EMAIL_LENGTH

Address = Annotated[str, Meta(min_length=3, max_length=MAX_EMAIL_LENGTH, examples=["noor@example.eu"])]


class CreateInvitation(Struct, frozen=True, forbid_unknown_fields=True):
    email: Address
    role: GivenRole


class InviteOwner(Struct, frozen=True, forbid_unknown_fields=True):
    email: Address


class InvitationView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^inv_", examples=["inv_01jdgz3v8meer9m7hx9m1yq4zt"])]
    email: Address
    role: GivenRole
    created_at: datetime
    sent_at: Annotated[datetime, Meta(description="The last time.")]
    expires_at: Annotated[datetime, Meta(description="Seven days after it was sent. Expired ones can be sent again.")]
    expired: bool


class SentInvitation(InvitationView, frozen=True):
    link: Annotated[
        str | None,
        Meta(
            description="For you to hand over, where this operator sends no mail: shown this once. Null where it was "
            "sent to the address, which alone gets it.",
        ),
    ]


def show_invitation(invitation: InvitationRecord) -> InvitationView:
    return InvitationView(**_shown(invitation))


def show_sent_invitation(invitation: InvitationRecord, link: str | None) -> SentInvitation:
    return SentInvitation(**_shown(invitation), link=link)


def _shown(invitation: InvitationRecord) -> dict[str, Any]:
    return {
        "id": encode_id(INVITATION, invitation.id),
        "email": invitation.email,
        "role": Role(invitation.role),
        "created_at": invitation.created_at,
        "sent_at": invitation.sent_at,
        "expires_at": invitation.expires_at,
        "expired": invitation.expired,
    }
