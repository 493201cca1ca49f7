"""What other regions' gateways find here: the status that they ask for, and the requests that they send on.

A forwarded request runs as if its client had come here itself, under the id that the first gateway gave it.
"""

import msgspec

from chappe_gateway.edge.call import Call
from chappe_gateway.edge.errors import PeerRefused, WrongRegion, unknown_path
from chappe_gateway.gateway import Gateway
from chappe_gateway.peers.peers import own_status
from chappe_kernel.errors import ChappeError, NotFound, Unavailable
from chappe_kernel.wire.peer import NOT_ADMITTED_HEADER, STATUS_PATH

_NO_CONTENT = 204
PATH = STATUS_PATH.decode()
_TRY_ELSEWHERE = (Unavailable, WrongRegion, NotFound)


async def serve_peer(gateway: Gateway, call: Call) -> None:
    """The status for a peer, and its word of who has left. For anybody else there is nothing here."""
    if call.forwarded is None:
        raise unknown_path()
    if call.forwarded.left is not None:
        for running in gateway.live:
            if running.id == call.forwarded.left and running.forwarded is not None:
                running.peer_said_left.set()
        await call.start(_NO_CONTENT, [])
        await call.send_body(b"", more=False)
        return
    call.expect_method("GET")
    await call.respond(200, [], msgspec.json.encode(own_status(gateway)))


def accept(gateway: Gateway, call: Call, sealed: bytes) -> None:
    """The call is what its ticket says: it has that id, and its client that address. Raises `PeerRefused`."""
    if gateway.settings.peer_client_ca_file and not call.is_from_certified_peer:
        raise PeerRefused("a gateway shows its certificate here")
    ticket = gateway.peers.seal.open(sealed, gateway.clock.now().timestamp())
    if ticket is None:
        raise PeerRefused("this is not from a gateway of ours")
    call.forward_as(ticket)
    call.notice_lost_network()
    if ticket.origin not in gateway.snapshots.view().regions:
        raise PeerRefused("this is from a region that is none")


def tell_not_admitted(call: Call, error: ChappeError) -> None:
    """Nothing was begun, held or charged: the first gateway may try another region under the same id."""
    if isinstance(error, PeerRefused) or (
        call.forwarded is not None and call.deployment is None and isinstance(error, _TRY_ELSEWHERE)
    ):
        call.edge_headers = [*call.edge_headers, (NOT_ADMITTED_HEADER, b"1")]
