"""How much memory each part takes, shared pages divided among those who share them (proportional set size)."""

from collections import Counter
from collections.abc import Mapping

import psutil

from chappe_local.processes import Mark, marked_processes, part_of, with_followers

_BYTES_PER_MB = 1_000_000


def memory_by_part(mark: Mark, roots: Mapping[str, psutil.Process]) -> dict[str, int]:
    """Megabytes (10**6 bytes) by part: of its first process with all that follows it, and of all that is marked."""
    owner = {process.pid: (process, part_of(process, mark) or "") for process in marked_processes(mark)}
    for part, root in roots.items():
        owner.update((process.pid, (process, part)) for process in with_followers([root]))
    total: Counter[str] = Counter()
    for process, part in owner.values():
        try:
            total[part] += process.memory_full_info().pss
        except (psutil.Error, OSError):
            continue
    return {part: round(size / _BYTES_PER_MB) for part, size in total.items()}
