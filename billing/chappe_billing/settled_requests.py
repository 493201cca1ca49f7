"""What exports and the feed both say of a settled request. Pure."""

from functools import lru_cache
from typing import Any

from chappe_kernel.ids import KEY, PRICE_VERSION, PROJECT, TENANT, encode_id
from chappe_kernel.money import format_nano

# Tenants, keys and prices come again and again; a request's own id does not.
encode_again = lru_cache(maxsize=8192)(encode_id)


def fields_of(row: Any) -> dict[str, Any]:
    """Of a row with the event's columns and the names beside them. `amount` is what the tenant owes."""
    return {
        "tenant_id": encode_again(TENANT, row.tenant_id),
        "project_id": encode_again(PROJECT, row.project_id),
        "key_id": encode_again(KEY, row.key_id),
        "region": row.region,
        "model": row.model,
        "price_version": encode_again(PRICE_VERSION, row.price_version_id),
        "outcome": row.outcome,
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "seconds": row.seconds,
        "images": row.images,
        "amount": format_nano(row.amount_nano - row.written_off_nano),
        "currency": row.currency,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "posted_at": row.posted_at,
    }
