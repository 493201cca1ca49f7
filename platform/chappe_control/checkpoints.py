"""The control plane signs the audit log regularly, and raises the alarm when it is not what it signed before."""

import structlog

from chappe_store.audit_log.chain import Checkpoint, NotIntact
from chappe_store.audit_log.service import make_checkpoint
from chappe_store.audit_log.signing import SigningKeys
from chappe_store.session import Database

_log = structlog.get_logger()


class Signer:
    """Keeps the newest checkpoint that this process knows in mind, so that not even the log's removal is silent."""

    def __init__(self, database: Database, keys: SigningKeys) -> None:
        self._database = database
        self._keys = keys
        self._seen: Checkpoint | None = None

    async def sign(self) -> int:
        """1 when something had changed since; any number of processes may do so side by side."""
        try:
            async with self._database.operator() as session:
                made = await make_checkpoint(session, self._keys, seen=self._seen)
        except NotIntact as error:
            _log.error("audit_log_not_intact", difference=error.message)
            return 0
        if made is None or made == self._seen:
            return 0
        self._seen = made
        # Wherever logs are kept, they bear witness as well.
        _log.info("audit_log_signed", sequence=made.sequence, hash=made.hash, signature=made.signature)
        return 1
