"""The catalogue as the operator writes it down: one JSON file for regions, publishers, listings and deployments."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from chappe_kernel.errors import Invalid
from chappe_kernel.rating import Price
from chappe_kernel.wire.control import Task

_Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,98}[a-z0-9]?\Z")]
_RegionName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}\Z")]
_Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
_Jurisdiction = Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")]
_Url = Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+\Z", max_length=300)]
_Count = Annotated[int, Meta(ge=0, le=10**9)]
_Positive = Annotated[int, Meta(ge=1, le=10**9)]
_BasisPoints = Annotated[int, Meta(ge=0, le=10_000)]
_Title = Annotated[str, Meta(min_length=1, max_length=100)]
# So that no product of a price and a count within its bounds leaves 63 bits.
MAX_PRICE_NANO = 10**9


class RegionEntry(Struct, frozen=True, forbid_unknown_fields=True):
    name: _RegionName
    jurisdiction: _Jurisdiction
    gateway_url: _Url


class PublisherEntry(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    title: _Title


class ListingEntry(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    publisher: str
    task: Task
    context_tokens: _Positive
    template_tokens: _Count
    default_output_tokens: _Count
    max_output_tokens: _Count
    regions: dict[str, Price]
    publisher_share_bp: _BasisPoints = 0


class DeploymentEntry(Struct, frozen=True, forbid_unknown_fields=True):
    region: str
    name: str
    engine: Literal["llama.cpp", "e5", "vllm", "simulated"]
    replicas: Annotated[int, Meta(ge=0, le=1000)]
    max_ongoing_requests: Annotated[int, Meta(ge=1, le=100_000)]
    options: dict[str, Any] = {}


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    currency: _Currency
    regions: tuple[RegionEntry, ...]
    publishers: tuple[PublisherEntry, ...]
    listings: tuple[ListingEntry, ...]
    deployments: tuple[DeploymentEntry, ...]


def read_manifest(raw: bytes) -> Manifest:
    """Decode and check that every reference resolves. Raises `Invalid` saying where it is wrong."""
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid(f"the catalogue is wrong: {error}", code="invalid_catalogue") from None
    regions = _unique("region", (region.name for region in manifest.regions))
    publishers = _unique("publisher", (publisher.name for publisher in manifest.publishers))
    listings = _unique("listing", (listing.name for listing in manifest.listings))
    _unique("deployment", (f"{deployment.region}/{deployment.name}" for deployment in manifest.deployments))
    for listing in manifest.listings:
        _check_listing(listing, regions, publishers)
    for deployment in manifest.deployments:
        if deployment.region not in regions or deployment.name not in listings:
            raise _wrong(f"the deployment {deployment.region}/{deployment.name} names no region or no listing")
    return manifest


def _check_listing(listing: ListingEntry, regions: set[str], publishers: set[str]) -> None:
    if listing.publisher not in publishers:
        raise _wrong(f"the listing {listing.name} names an unknown publisher")
    if listing.default_output_tokens > listing.max_output_tokens:
        raise _wrong(f"the listing {listing.name} has a default output over its maximum")
    for region, price in listing.regions.items():
        if region not in regions:
            raise _wrong(f"the listing {listing.name} names the unknown region {region}")
        if max(msgspec.structs.astuple(price)) > MAX_PRICE_NANO:
            raise _wrong(f"the listing {listing.name} costs too much in {region}")


def _unique(noun: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _wrong(f"the {noun} {name} is there twice")
        seen.add(name)
    return seen


def _wrong(why: str) -> Invalid:
    return Invalid(f"the catalogue is wrong: {why}", code="invalid_catalogue")
