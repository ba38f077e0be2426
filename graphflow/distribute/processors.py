"""Workers that are bound to processors of their own, as MPI's `--bind-to core` does.

Some kernels wake a process where the one runs that wakes it: a driver and its workers then take
turns on one processor, and a step takes the sum of their times.  On two cores, a step of nothing on
two workers took 110 us with the workers apart, and 170 us with all three on one.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable
from contextlib import suppress

_log = logging.getLogger("graphflow")


BIND = "GRAPHFLOW_BIND_CPUS"  # how many a worker is to be bound to


class Processors:
    """Processors of this machine that no other worker of its network namespace has.

    Each has a name, that of a Unix socket without a file, which the kernel frees when the process
    ends, however it ends.

    Attributes:
      numbers: which; none, where there are not so many left.
    """

    def __init__(self, count: int, among: Iterable[int]):
        """Args:
        count: how many are wanted.
        among: numbers of those that there are.
        """
        self._names: list[socket.socket] = []
        numbers: list[int] = []
        for number in among:
            if len(numbers) == count:
                break
            name = socket.socket(socket.AF_UNIX)
            try:
                name.bind(f"\0graphflow-processor-{number}")
            except OSError:  # it is another one's
                name.close()
            else:
                self._names.append(name)
                numbers.append(number)
        if len(numbers) < count:
            numbers = []
            self.close()
        self.numbers = tuple(numbers)

    def close(self) -> None:
        """Let others have them."""
        for name in self._names:
            name.close()


def bound(count: int) -> Processors:
    """Bind all threads of this process, and those that these start, to so many processors; or to
    none, with a warning, where other workers have them all."""
    processors = Processors(count, sorted(os.sched_getaffinity(0)))
    if not processors.numbers:
        _log.warning(
            "bind_cpus=True: other workers are bound to all processors of this machine; this one "
            "runs wherever there is room"
        )
        return processors
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread), processors.numbers)
    return processors
