"""The command `chappe` over an instance of three small parts; supervisor, socket and state are the real ones.

`python tiny_chappe.py up --detach`. The parts: a real Valkey, `web` (which leaves a child in a session of its own, as
Ray's daemons do), and `idle`, which ignores SIGTERM, and which dies at once where CHAPPE_TEST_BROKEN is set. With
CHAPPE_TEST_STRIPE the payment stand-in is there too.
"""

import functools
import subprocess
import sys
from typing import Any

from chappe_kernel.cli import main
from chappe_local import daemon, probes
from chappe_local.parts import Part, Setting, all_parts
from chappe_local.runfile import run_document, write_run_file
from chappe_local.startup import StartUp

WEB = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
IDLE = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('idle up', flush=True); time.sleep(600)"
)
BROKEN = "raise SystemExit('the dog ate the configuration')"


def tiny_parts(setting: Setting) -> list[Part]:
    async def lives() -> bool:
        return "CHAPPE_TEST_BROKEN" not in setting.environ

    whole = {part.name: part for part in all_parts(setting)}
    redis = whole["redis"]
    port = setting.instance.control_port
    web = Part(
        name="web",
        command=lambda: [sys.executable, "-c", WEB, str(port)],
        environment=setting.base_environment("web"),
        ready=lambda: probes.http_answers(f"http://127.0.0.1:{port}/"),
        after=("redis",),
    )
    idle = Part(
        name="idle",
        command=lambda: [sys.executable, "-c", BROKEN if "CHAPPE_TEST_BROKEN" in setting.environ else IDLE],
        environment=setting.base_environment("idle"),
        ready=lives,
        stop_grace_s=0.5,
    )
    return [redis, web, idle, *([whole["stripe"]] if "CHAPPE_TEST_STRIPE" in setting.environ else [])]


class TinyStartUp(StartUp):
    """Without database and regions there is nothing to do between the parts."""

    async def run(self) -> dict[str, Any]:
        self.supervisor.start_all()
        await self.supervisor.until_ready(*self.supervisor.running)
        self.supervisor.finish_start_up()
        document = run_document(self.setting.instance, self.setting.secrets, "ten_0123456789abcdefghjkmnpqrs")
        write_run_file(self.setting.instance, document)
        return document


def run(*arguments: str, environ: dict[str, str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run this command to its end."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, env=environ, check=False, capture_output=True, text=True, timeout=timeout, cwd="/")


if __name__ == "__main__":
    daemon.fork_daemon = functools.partial(daemon.fork_daemon, make_parts=tiny_parts, start_up=TinyStartUp)
    main()
