"""What the operator's queues of disputed things have in common."""

from typing import Annotated, Literal

from litestar.params import QueryParameter
from msgspec import Meta

from chappe_billing.funds.once import MAX_REASON_LENGTH

TAG = "Disputed usage"

Show = Annotated[Literal["open", "all"], QueryParameter(description="Those that are decided as well, or not.")]
KeptReason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH, description="It is kept.")]
