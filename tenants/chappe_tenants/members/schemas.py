"""Members as the API shows them."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from chappe_kernel.ids import MEMBER, encode_id
from chappe_tenants.members.queries import MemberRecord
from chappe_tenants.members.service import Role

GivenRole = Annotated[
    Role,
    Meta(
        description="`owner`: everything, and owners. `admin`: everything else. `developer`: keys and the playground. "
        "`billing`: money and usage. `viewer`: looks on.",
        examples=["developer"],
    ),
]


class ChangeMember(Struct, frozen=True, forbid_unknown_fields=True):
    role: GivenRole


class MemberView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^mem_", examples=["mem_01jdgz3v8meer9m7hx9m1yq4zt"])]
    email: Annotated[str, Meta(examples=["mia@example.eu"])]
    role: GivenRole
    created_at: datetime
    last_signed_in_at: Annotated[
        datetime | None, Meta(description="To this organisation, which counts switching to it from another.")
    ]


def show_member(member: MemberRecord) -> MemberView:
    return MemberView(
        id=encode_id(MEMBER, member.id),
        email=member.email,
        role=Role(member.role),
        created_at=member.created_at,
        last_signed_in_at=member.last_signed_in_at,
    )
