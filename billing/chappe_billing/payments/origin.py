"""In whose name the payment service's word changes something."""

from chappe_kernel.ids import new_id
from chappe_store.audit_log.origin import ActorKind, Origin


def payment_origin() -> Origin:
    """One for each event or call. The audit log says that it was the service's word, and no person's."""
    return Origin(ActorKind.PAYMENT_SERVICE, "stripe", None, new_id())
