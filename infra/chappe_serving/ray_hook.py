"""Called inside `ray start` (RAY_START_HOOK), for what its command line cannot say."""

import functools
from typing import Any

from ray._private import ray_constants, services

_MODULES = "--modules-to-load=ServeHead"


def trim_head(ray_params: Any, head: bool) -> None:  # noqa: FBT001  # Ray calls it with positional arguments
    """No Ray client server, and of the dashboard only Serve's REST API.

    The Ray client and the job API (one of nine dashboard modules, a process each) are two ways to run code in the
    cell that nobody here needs; without them a cluster also takes 200 MB less.
    """
    del head
    ray_params.ray_client_server_port = None
    services.start_ray_process = _with_serve_only(services.start_ray_process)


def _with_serve_only(start: Any) -> Any:
    @functools.wraps(start)
    def start_process(command: list[str], process_type: str, *args: Any, **kwargs: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_DASHBOARD:
            command = [*command, _MODULES]
        return start(command, process_type, *args, **kwargs)

    return start_process
