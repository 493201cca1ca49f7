"""The upstream of the gateways' benchmark: nginx with canned answers, the same tokens in OpenAI's form for the peers
and in our engines' form for Chappe. Beside it nginx as a gateway that only passes through: what is possible."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from chappe_kernel.rating import Counts
from chappe_kernel.wire.engine import END_HEADER, END_MARK, START_MARK, End, EngineHealth, Start
from tests.bench.load import OTHER_CORE, SYSTEM_CORE, pinned
from tests.gateway.servers import free_port

CHUNKS = 66
COUNTS = Counts(42, 0, CHUNKS - 2)
UNARY, STREAM = "unary", "stream"
"""Models, one for each kind of answer: nginx does not read bodies."""

_USAGE = {"prompt_tokens": 42, "completion_tokens": 64, "total_tokens": 106}
_HEAD = {"id": "chatcmpl-bench", "created": 1_795_302_051, "model": "bench"}
_TEXT = "The capital of France is Paris."
_COMMON = """
worker_processes 1; daemon off; pid {name}.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_body_buffer_size 1m;
  client_body_temp_path {name}-body; proxy_temp_path {name}-proxy; fastcgi_temp_path {name}-f; uwsgi_temp_path {name}-u;
  scgi_temp_path {name}-s; default_type application/json; open_file_cache max=100; tcp_nopush on;
  {servers}
}}
"""
# A file is no answer to POST for nginx, but it can be the error's page. The location is the file's own.
_UPSTREAM = """
  server {{ listen 127.0.0.1:{unary}; root .; error_page 405 =200 /unary.json;
    location / {{ rewrite ^ /unary.json break; }}
    location = /unary.json {{ }} }}
  server {{ listen 127.0.0.1:{stream}; root .; error_page 405 =200 /sse.txt;
    location / {{ rewrite ^ /sse.txt break; }}
    location = /sse.txt {{ default_type text/event-stream; types {{ }} }} }}
  server {{ listen 127.0.0.1:{engine}; root .;
    location /unary/ {{ error_page 405 =200 /unary.json; rewrite ^ /unary.json break; }}
    location /stream/ {{ error_page 405 =200 /engine.txt; rewrite ^ /engine.txt break; }}
    location ~ /health$ {{ return 200 '{health}'; }}
    location = /unary.json {{ add_header {header} '{end}'; }}
    location = /engine.txt {{ default_type text/event-stream; types {{ }} }} }}
"""
_PASS = """
  upstream unary {{ server 127.0.0.1:{unary}; keepalive 256; keepalive_requests 100000000; }}
  upstream stream {{ server 127.0.0.1:{stream}; keepalive 256; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{pass_unary};
    location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://unary; }} }}
  server {{ listen 127.0.0.1:{pass_stream};
    location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_pass http://stream; }} }}
"""


class Ports(NamedTuple):
    """Where the upstream listens: in OpenAI's form for each kind of answer, and as our engines."""

    unary: int
    stream: int
    engine: int


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[Ports]:
    """Answers at once."""
    _write_answers(folder)
    ports = Ports(free_port(), free_port(), free_port())
    end = msgspec.json.encode(End("completed", COUNTS, "stop")).decode()
    health = msgspec.json.encode(EngineHealth("canned", 2048, 0)).decode()
    servers = _UPSTREAM.format(**ports._asdict(), header=END_HEADER, end=end, health=health)
    with _nginx(folder, "upstream", servers, OTHER_CORE):
        yield ports


@contextlib.contextmanager
def pass_through(folder: Path, ports: Ports) -> Iterator[tuple[int, int, int]]:
    """Its ports for whole answers and for streams, and its worker's process."""
    own = {"pass_unary": free_port(), "pass_stream": free_port()}
    with _nginx(folder, "pass", _PASS.format(**ports._asdict(), **own), SYSTEM_CORE) as pid:
        yield own["pass_unary"], own["pass_stream"], int(_children(pid)[0])


def nginx_version() -> str:
    said = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    return said.strip().rpartition("/")[2]


def _write_answers(folder: Path) -> None:
    message = {"role": "assistant", "content": _TEXT}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    whole = {**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    chunks = [_chunk({"role": "assistant", "content": ""})]
    chunks += [_chunk({"content": f" tok{index}"}) for index in range(CHUNKS - 2)]
    chunks.append(_chunk({}, "stop"))
    events = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)
    start, end = msgspec.json.encode(Start(42, 0)), msgspec.json.encode(End("completed", COUNTS, "stop"))
    (folder / "unary.json").write_bytes(msgspec.json.encode(whole))
    (folder / "sse.txt").write_bytes(events + b"data: [DONE]\n\n")
    (folder / "engine.txt").write_bytes(START_MARK + start + b"\n\n" + events + END_MARK + end + b"\n\n")


def _chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_HEAD, "object": "chat.completion.chunk", "choices": [choice]}


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@contextlib.contextmanager
def _nginx(folder: Path, name: str, servers: str, core: int) -> Iterator[int]:
    config = folder / f"{name}.conf"
    config.write_text(_COMMON.format(name=name, servers=servers))
    # Its worker is of another user when root starts it, and must read the answers.
    folder.chmod(0o755)
    command = pinned(core, "nginx", "-p", str(folder), "-c", str(config), "-g", "user root;")
    process = subprocess.Popen(command)
    try:
        while not _children(process.pid):
            if process.poll() is not None:
                raise RuntimeError(f"nginx did not start: {config}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)
