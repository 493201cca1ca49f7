"""What may stand as a name that people will read: in lists, on invoices, in other people's browsers."""

import re
import unicodedata

from chappe_kernel.errors import Invalid

MAX_NAME_LENGTH = 100
MAX_EMAIL_LENGTH = 254
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*", re.ASCII)

# Control characters, surrogates, private use, unassigned, line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
# Format characters that turn the direction of what follows: a name could then read as another one. The rest of their
# category stays allowed, since Persian and Indic names need its joiners.
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_name(text: str, *, param: str, max_length: int = MAX_NAME_LENGTH) -> str:
    """The name in Unicode NFC, without blanks at its ends. Raises `Invalid` naming `param`, and never the text."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= max_length:
        raise Invalid(f"{param} must have 1 to {max_length} characters", code="invalid_name", param=param)
    if any(unicodedata.category(char) in _REFUSED_CATEGORIES or char in _DIRECTION_MARKS for char in name):
        raise Invalid(f"{param} must not contain control characters", code="invalid_name", param=param)
    return name


def clean_email(text: str, *, param: str = "email") -> str:
    """The address in lower case. Checks its shape only: whether it receives mail is for a mail to find out.

    A dot-atom and a host's name (RFC 5321, 4.1.2), so that it stands for one mailbox wherever it is written: a comma or
    a quote in it could make two of one.
    """
    email = text.strip().lower()
    if not _ADDRESS.fullmatch(email) or len(email) > MAX_EMAIL_LENGTH:
        raise Invalid(f"{param} is not an e-mail address", code="invalid_email", param=param)
    return email
