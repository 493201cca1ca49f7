"""Errors that know nothing of HTTP. Each edge maps them once to its own shape."""


class ChappeError(Exception):
    """Base of every expected failure.

    `message` is for a person, `code` is stable and for programs, `param` names the offending field.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param


class Invalid(ChappeError):
    """The caller sent something that can never work."""

    default_code = "invalid_request"


class TooLarge(Invalid):
    """The body is over the size limit."""

    default_code = "request_too_large"


class Unauthenticated(ChappeError):
    """Nobody, or somebody we do not know."""

    default_code = "invalid_api_key"


class Denied(ChappeError):
    """Known, but not allowed."""

    default_code = "denied"


class NotFound(ChappeError):
    """It does not exist, or it is another tenant's."""

    default_code = "not_found"


class Conflict(ChappeError):
    """It contradicts the present state."""

    default_code = "conflict"


class Stale(Conflict):
    """It has changed since the caller saw it."""

    default_code = "stale"


class Unconditional(Invalid):
    """The caller must say which state it wants to change, so that it undoes nobody else's change unseen."""

    default_code = "if_match_required"


class InsufficientFunds(ChappeError):
    """The budget is used up and no unsettled money could still come back."""

    default_code = "insufficient_funds"


class LimitExceeded(ChappeError):
    """Too much at once. `retry_after_s` says when it is worth another try."""

    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(ChappeError):
    """We cannot do it now, through no fault of the caller's."""

    default_code = "unavailable"
