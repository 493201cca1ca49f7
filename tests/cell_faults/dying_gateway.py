"""`chappe gateway`, killed by SIGKILL between an event's commit and the end of its response, if `die` is in FOLDER.

`python -m tests.cell_faults.dying_gateway FOLDER`
"""

import os
import signal
import sys
from pathlib import Path

from chappe_gateway.cli import gateway
from chappe_gateway.usage.spool import Spool
from chappe_kernel.wire.control import UsageEvent

DIE = "die-between-commit-and-response"


def main() -> None:
    sign = Path(sys.argv.pop()) / DIE
    commit = Spool.commit

    async def commit_and_die(spool: Spool, event: UsageEvent) -> None:
        await commit(spool, event)
        if sign.exists():
            sign.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    vars(sys.modules["chappe_gateway.usage.spool"])["Spool"].commit = commit_and_die
    gateway()


if __name__ == "__main__":
    main()
