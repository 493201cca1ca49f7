"""Query parameters, headers and types that several routes share."""

from typing import Annotated

from litestar.params import HeaderParameter, QueryParameter
from msgspec import Meta

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

Amount = Annotated[str, Meta(pattern=r"^-?[0-9]+\.[0-9]{9}$", description="A decimal string.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="How many items to return at most.")]
Cursor = Annotated[
    str | None,
    QueryParameter(max_length=100, description="The `next_cursor` of the page before. Opaque. Pages are newest first."),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="1 to 255 printable characters of your choice. A repeat within 24 hours has no second effect.",
    ),
]
"""For a handler's signature, so that the OpenAPI document has it. `idempotency.call_of` reads the request itself."""
