"""One request to an endpoint, to an address that was checked, and to no other.

The name is resolved here and nowhere else, every address that it has is checked, and the connection is made to one of
those: a name that answers differently a moment later changes nothing. TLS still asks for the name, and the certificate
has to be the name's. Redirects are answers like any other, proxies of the environment are not asked, and nothing of an
answer but its status is read.
"""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkStream
from msgspec import Struct

from chappe_control.webhooks.addresses import is_loopback, is_public
from chappe_control.webhooks.target import Target
from chappe_kernel.networks import Address

TIMEOUT_S: Final = 15.0
_MOST_ADDRESSES: Final = 4

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
Allows = Callable[[Address], bool]


class Answer(Struct, frozen=True):
    """How one try went: a status, or a code for why there was none."""

    status: int | None
    error: str | None
    duration_ms: int

    @property
    def is_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 -- HTTP's own classes


class NotPublic(Exception):
    """The name leads, or one of its addresses does, to where webhooks do not go."""


class Sender:
    """Sends. `allows` says to which addresses; `resolve` how a name becomes them."""

    def __init__(
        self,
        *,
        allows: Allows,
        resolve: Resolve | None = None,
        context: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        # Threads of its own: resolvers that do not answer hold up nothing else.
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="webhook-names")
        self._allows = allows
        self._resolve = resolve or self._look_up
        self._context = context or ssl.create_default_context()
        self._timeout_s = timeout_s

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(self, target: Target, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Never raises for what the other side does."""
        begun = time.monotonic()
        status, error = None, None
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._post(target, body, headers)
        except NotPublic:
            error = "address_not_public"
        except TimeoutError:
            error = "timed_out"
        except httpcore.TimeoutException:
            error = "timed_out"
        except ssl.SSLError:
            error = "tls_failed"
        except httpcore.ConnectError as failed:
            error = "tls_failed" if "SSL" in str(failed) or "CERTIFICATE" in str(failed) else "not_reached"
        except (httpcore.ProtocolError, httpcore.NetworkError):
            error = "no_answer"
        except OSError:
            error = "not_reached"
        return Answer(status, error, round((time.monotonic() - begun) * 1000))

    async def _post(self, target: Target, body: bytes, headers: Mapping[str, str]) -> int:
        pinned = _Pinned(self._resolve, self._allows)
        async with httpcore.AsyncConnectionPool(
            ssl_context=self._context, network_backend=pinned, http2=False, retries=0, max_connections=1
        ) as pool:
            url = httpcore.URL(
                scheme=b"https" if target.is_tls else b"http",
                host=target.host.encode(),
                port=target.port,
                target=target.path.encode(),
            )
            lines = {"host": target.authority, "content-length": str(len(body)), "connection": "close", **headers}
            encoded = [(name.encode(), value.encode()) for name, value in lines.items()]
            async with pool.stream("POST", url, headers=encoded, content=body) as answer:
                return answer.status

    async def _look_up(self, host: str, port: int) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [ipaddress.ip_address(one[4][0]) for one in found]


def make_sender(*, to_loopback: bool) -> Sender:
    """To the public Internet; for development to this machine as well."""
    return Sender(allows=lambda address: is_public(address) or (to_loopback and is_loopback(address)))


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to a checked address, whatever name it was asked for."""

    def __init__(self, resolve: Resolve, allows: Allows) -> None:
        self._resolve = resolve
        self._allows = allows
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 -- the library's signature
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        # One that is not public is enough to refuse them all: whoever mixes them is trying something.
        if not addresses or not all(map(self._allows, addresses)):
            raise NotPublic
        failed: Exception = httpcore.ConnectError("no address")
        for address in list(dict.fromkeys(addresses))[:_MOST_ADDRESSES]:
            try:
                return await self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 -- the library's signature
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        raise NotPublic

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
