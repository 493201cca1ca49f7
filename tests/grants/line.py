"""A line between a gateway and its control plane, which can be cut: nothing arrives any more, and nobody says so."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Line:
    """A relay of bytes on `port`, to `target_port` of this machine."""

    target_port: int
    port: int = 0
    refused: bytes | None = None
    """A call in which this stands does not get through, and breaks off."""
    asks: int = 0
    """Questions for a grant that went through."""
    _whole: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        self._whole.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self._hang_up()

    def cut(self) -> None:
        """What is under way breaks off; whoever calls anew waits."""
        self._whole.clear()
        self._hang_up()

    def mend(self) -> None:
        self._whole.set()

    def _hang_up(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await self._whole.wait()
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(far)
            await asyncio.gather(self._pump(reader, far), self._pump(far_reader, writer))
        except OSError:
            pass
        finally:
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """To its end, which is the other side's as well."""
        while data := await reader.read(2**16):
            if self.refused is not None and self.refused in data:
                break
            self.asks += data.count(b"POST /internal/v1/grants HTTP")
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
