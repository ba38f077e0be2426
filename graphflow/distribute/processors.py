"""Workers that are bound to processors of their own, as MPI's `--bind-to core` does.

Some kernels wake a process where the one runs that wakes it: a driver and its workers then take
turns on one processor, and a step takes the sum of their times.  On two cores, a step of nothing on
two workers took 110 us with the workers apart, and 170 us with all three on one.

A worker that is bound where its driver runs takes turns with it, so it must not take the processor
at once when a message wakes it: the next message is for a worker on another one.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

BIND = "GRAPHFLOW_BIND_CPUS"  # how many a worker is to be bound to


class Processors:
    """Processors of this machine that as few other workers of its network namespace have as can be.

    What a worker has of a processor bears a name, that of a Unix socket without a file, which the
    kernel frees when the process ends, however it ends.

    Attributes:
      numbers: which.
    """

    def __init__(self, count: int, among: Sequence[int]):
        """Args:
        count: how many are wanted; at most all.
        among: numbers of those that there are.
        """
        self._names: list[socket.socket] = []
        found: list[int] = []
        places = ((number, share) for share in itertools.count() for number in among)
        while len(found) < min(count, len(among)):
            number, share = next(places)
            if number not in found and self._claim(f"{number}-{share}"):
                found.append(number)
        self.numbers = tuple(found)

    def _claim(self, name: str) -> bool:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0graphflow-processor-{name}")
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:  # else it is another one's
                raise
            return False
        self._names.append(claim)
        return True

    def close(self) -> None:
        """Let others have them."""
        for name in self._names:
            name.close()


def bound(count: int) -> Processors:
    """Bind all threads of this process, and those that these start, to so many processors.  They
    let whoever wakes them go on (SCHED_BATCH), unless they have another policy than the usual."""
    processors = Processors(count, sorted(os.sched_getaffinity(0)))
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(thread, processors.numbers)
            if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    return processors
