"""A small web server of made-up pages, good and bad, to show what the harness sees."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self' http://127.0.0.1:9; report-uri /csp-report"
)
_LAYOUT = """<!doctype html><html lang="en"><head><title>Stub</title><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><link rel="stylesheet" href="/style.css"></head>
<body><main><h1>Stub</h1>{body}</main>{end}</body></html>"""
_STYLE = """body { background: #fff; color: #111 } a:focus, select:focus { outline: 2px solid #00f }
.unseen:focus { outline: none } .pale { color: #eee } .wide { width: 2000px }"""


class StubPages:
    """`page` adds a page; `script` one more file that may be loaded by it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://localhost:{port}"
        self._files: dict[str, tuple[str, str]] = {"/style.css": ("text/css", _STYLE)}

    def page(self, body: str, script: str = "") -> str:
        """The path of a new page under a strict policy; `script` runs at its end, from a file of its own."""
        name = f"/{len(self._files)}"
        end = f'<script src="{name}.js"></script>' if script else ""
        self._files[f"{name}.js"] = ("text/javascript", script)
        self._files[name] = ("text/html; charset=utf-8", _LAYOUT.format(body=body, end=end))
        return name

    def answer(self, path: str) -> tuple[int, str, bytes]:
        kind, text = self._files.get(path, ("text/plain", ""))
        return (200 if path in self._files else 404), kind, text.encode()


@contextmanager
def stub_pages() -> Iterator[StubPages]:
    """The pages, served on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content = pages.answer(self.path)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.send_header("content-security-policy", _POLICY)
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on the tests' output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages = StubPages(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
