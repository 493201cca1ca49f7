"""What happens to browser tokens: a signed-in member's page is given one, and it ends by itself or with the session."""

from datetime import timedelta

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_kernel.api_keys import Pepper, generate_browser_token
from chappe_kernel.errors import LimitExceeded, Unauthenticated
from chappe_kernel.ids import ProjectId
from chappe_tenants.api_keys.service import digest_all, ensure_playground_key
from chappe_tenants.browser_tokens import queries
from chappe_tenants.peppers import newest
from chappe_tenants.sessions.service import MemberVisitor

LIFETIME = timedelta(minutes=10)
MAX_LIVE_PER_SESSION = 20
"""A page renews its token a little early, so this is about ten pages open at once."""


class IssuedToken(Struct, frozen=True):
    """`token` is stored nowhere: it is shown this once."""

    token: str
    expires_in_s: float


async def issue_token(
    session: AsyncSession,
    visitor: MemberVisitor,
    project_id: ProjectId,
    *,
    peppers: tuple[Pepper, ...],
    jurisdiction_of: dict[str, str],
) -> IssuedToken:
    """A token that does what the project's playground key may do, and lives no longer than the session.

    Raises `LimitExceeded` while the session has too many that live, `Unauthenticated` when it has ended meanwhile.
    """
    scope = visitor.scope
    # First of all locks: a sign-out holds the session's row when it comes to the tokens and to the keys' revision.
    session_expires_at = await queries.lock_session(session, scope, visitor.session_id)
    if session_expires_at is None:
        raise Unauthenticated("this session has ended", code="session_ended")
    await queries.delete_expired(session, scope, visitor.session_id)
    live = await queries.count_live(session, scope, visitor.session_id)
    if live.count >= MAX_LIVE_PER_SESSION:
        # Ending the oldest instead would let one page make every gateway forget its keys as often as it likes.
        raise LimitExceeded(
            "this sign-in has too many playground tokens", retry_after_s=live.first_ends_in_s, code="too_many_tokens"
        )
    token = generate_browser_token()
    (digest,) = digest_all(token, [newest(peppers)])
    lives_s = await queries.insert_token(
        session,
        scope,
        digest=digest,
        key_id=await ensure_playground_key(
            session, scope, project_id, peppers=peppers, jurisdiction_of=jurisdiction_of
        ),
        session_id=visitor.session_id,
        lifetime=LIFETIME,
        no_later_than=session_expires_at,
    )
    return IssuedToken(token, lives_s)
