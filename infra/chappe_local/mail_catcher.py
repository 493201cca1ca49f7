"""`python -m chappe_local.mail_catcher FOLDER SMTP_PORT PAGE_PORT`: takes a local instance's mail, and sends none."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session

from chappe_kernel.process import prepare_process
from chappe_local.mail_folder import MailFolder
from chappe_local.mail_page import make_page

_HOST = "127.0.0.1"
_MAX_BYTES = 16 * 1024 * 1024
"""More than a letter with the largest documents takes."""
# It would write down every line of every conversation, addresses included.
logging.getLogger("mail.log").setLevel(logging.WARNING)


class KeepAll:
    """What aiosmtpd asks: every letter to anybody is taken, and kept."""

    def __init__(self, folder: MailFolder) -> None:
        self._folder = folder

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- its name
        self._folder.keep(content_of(envelope), envelope.rcpt_tos)
        return "250 OK"


def content_of(envelope: Envelope) -> bytes:
    content = envelope.content or b""
    return content if isinstance(content, bytes) else content.encode()


@asynccontextmanager
async def catching(handler: object, port: int) -> AsyncIterator[int]:
    """An SMTP server on the loopback that hands letters to `handler`; its port, which is a free one for 0."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="localhost", data_size_limit=_MAX_BYTES, loop=loop), _HOST, port
    )
    async with server:
        yield server.sockets[0].getsockname()[1]


async def run(folder: Path, smtp_port: int, page_port: int) -> None:
    kept = MailFolder(folder)
    config = uvicorn.Config(
        make_page(kept), host=_HOST, port=page_port, log_config=None, access_log=False, server_header=False, ws="none"
    )
    async with catching(KeepAll(kept), smtp_port):
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    prepare_process("mail")
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
