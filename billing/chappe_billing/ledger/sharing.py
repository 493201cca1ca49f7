"""Lines of publishers' shares, as they are earned and as they are taken back. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from msgspec import Struct

from chappe_billing.ledger.postings import Account, AccountKind, Line, Share
from chappe_kernel.ids import LegalEntityId, PublisherId, TenantId


class ShareTerms(Struct, frozen=True):
    """By which a posted usage was shared. `left_nano` is what the publisher still has of it."""

    publisher_id: PublisherId
    share_bp: int
    left_nano: int


class GivenBack(Struct, frozen=True):
    """What a tenant gets back of a listing's usage in a region, and what its publishers earned too much of that."""

    listing_id: UUID
    region: str
    amount_nano: int
    shares: tuple[Share, ...] = ()


def taken_by(terms: ShareTerms | None, listing_id: UUID, region: str, amount_nano: int) -> tuple[Share, ...]:
    """What a publisher gives back of `amount_nano`, by the terms of then, cut off and never more than it has of it.
    Without terms nothing was shared."""
    if terms is None:
        return ()
    share = Share(listing_id, terms.publisher_id, region, terms.share_bp, -amount_nano)
    return (share.taking(max(0, min(-share.share_nano, terms.left_nano))),)


def share_lines(shares: Sequence[Share], currency: str, legal_entity_id: LegalEntityId) -> tuple[Line, ...]:
    """One for each publisher's account that the shares move."""
    sums: defaultdict[Account, int] = defaultdict(int)
    for share in shares:
        account = Account(
            AccountKind.PUBLISHER_PAYABLE,
            currency,
            legal_entity_id,
            region=share.region,
            publisher_id=share.publisher_id,
        )
        sums[account] += share.share_nano
    return tuple(Line(account, amount) for account, amount in sums.items() if amount)


def correction_lines(
    given: Sequence[GivenBack], currency: str, legal_entity_id: LegalEntityId, tenant_id: TenantId
) -> tuple[Line, ...]:
    """The tenant gets all of it, from each region's revenue and its publishers as they had shared it."""
    lines = [
        Line(
            Account(AccountKind.TENANT_FUNDS, currency, legal_entity_id, tenant_id=tenant_id),
            sum(one.amount_nano for one in given),
        )
    ]
    for region in sorted({one.region for one in given}):
        of_region = [one for one in given if one.region == region]
        amount = sum(one.amount_nano for one in of_region)
        taken = share_lines([share for one in of_region for share in one.shares], currency, legal_entity_id)
        revenue = Account(AccountKind.REVENUE, currency, legal_entity_id, region=region)
        lines += [Line(revenue, -amount - sum(line.amount_nano for line in taken)), *taken]
    return tuple(line for line in lines if line.amount_nano)
