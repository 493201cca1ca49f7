"""By whom and from where: what a transaction says of itself, so that the log can."""

import os
import pwd
import socket
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec import Struct

from chappe_kernel.ids import new_id


class ActorKind(StrEnum):
    """Who can change something."""

    MEMBER = "member"
    SIGN_UP = "sign_up"
    """Who is nobody in an organisation yet, and becomes its first member or accepts an invitation with it: `actor` is
    that member's id."""
    MAIL_READER = "mail_reader"
    """Who opened the link in a letter to their address: `actor` is the account's id."""
    RESELLER = "reseller"
    """A member or a key of the reseller whose customer it is: `actor` is their id."""
    OPERATOR_USER = "operator_user"
    OPERATOR_TOKEN = "operator_token"  # noqa: S105 -- a kind, and no secret
    """A program, with a token of one of the operator's people; the entry of its making says whose."""
    MANAGEMENT_KEY = "management_key"
    LEAK_REPORT = "leak_report"
    """Anybody who had a secret's text: it is the right to end it, and says nothing of who they are."""
    REGION = "region"
    PAYMENT_SERVICE = "payment_service"
    """What the payment service told of a payment, or what is asked of it by itself: `actor` is the service's name."""
    COMMAND = "command"
    DATABASE = "database"
    """Somebody with the database itself, around the application. The triggers alone write this."""


class Origin(Struct, frozen=True):
    """`actor` is the id of a person or key, a region's name, or who ran a command. `address` is the peer's own, as the
    socket gives it; of a command the machine's name. All that one call or command does shares its `request_id`."""

    kind: ActorKind
    actor: str
    address: str | None
    request_id: UUID

    def encoded(self) -> str:
        """As the triggers read it."""
        return msgspec.json.encode(self).decode()


def command_origin() -> Origin:
    """This process, as a command: the user by the operating system's own word, not by a variable."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # A container may run as a number that has no name.
        name = str(user)
    return Origin(ActorKind.COMMAND, name, socket.gethostname(), new_id())
