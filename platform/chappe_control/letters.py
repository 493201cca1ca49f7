"""Who writes the letters of each kind, for every process that sends them."""

from chappe_control.invoice_mail.letters import WRITERS as INVOICE_LETTERS
from chappe_control.joining.letters import WRITERS as JOINING_LETTERS
from chappe_control.notices.letters import WRITERS as NOTICES
from chappe_control.sign_in.letters import WRITERS as SIGN_IN_LETTERS

WRITERS = {**SIGN_IN_LETTERS, **JOINING_LETTERS, **NOTICES, **INVOICE_LETTERS}
