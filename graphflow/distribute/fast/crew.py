"""Threads that receive and do what they have received, most often one alone.

To wake a second thread takes as long as all else that a short step takes.  So who has received
something does it, too, and receives again.  Another one takes his place when he is about to wait
(`base.waiting`), or has been at it for long: a watchman looks now and then, while there is
anything to do at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from graphflow.base.waiting import telling

TICK = 0.005  # seconds between looks of the watchman, while there is a job at each
# Where there is none he comes more and more seldom, down to this: a look takes 40 us of a core that
# 32 workers may share, and at every tick they took a third of the time of short steps.
_SELDOM = 0.08
_IDLE = 4  # looks without work since the one before, after which he sleeps
_SPARE = 4  # threads that are kept for later


class _Job:
    """Something that was received, and is being done."""

    __slots__ = ("leads", "old")

    def __init__(self) -> None:
        self.leads = True  # who does it receives afterwards
        self.old = False  # the watchman has seen it


class Crew:
    """Receives on one thread at a time."""

    def __init__(self, receive: Callable[[], Any], work: Callable[[Any], None]):
        """Args:
        receive: waits for something to do; None: there will be nothing more.
        work: does it; it is called on several threads.
        """
        self._receive = receive
        self._work = work
        self._lock = threading.Lock()
        self._job: _Job | None = None  # of the one who receives
        self._jobs = 0
        self._free = 0  # threads that wait to be the one
        self._turn = threading.Semaphore(0)
        self._busy = threading.Event()  # wakes the watchman
        self._closed = False
        self._start(self._lead)
        self._start(self._watch)

    def _start(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name="graphflow-step", daemon=True).start()

    def _lead(self) -> None:
        job = _Job()
        with telling(lambda: self._hand_over(job)):  # the one that is done then
            while (received := self._receive()) is not None:
                job = _Job()
                with self._lock:
                    self._job = job
                    self._jobs += 1
                    if not self._busy.is_set():
                        self._busy.set()
                self._work(received)
                if not self._goes_on(job):
                    return
        self._close()

    def _goes_on(self, job: _Job) -> bool:
        """Has a thread that has done its job the turn, or gets it again?"""
        with self._lock:
            if job.leads:
                job.leads = False  # it is over: a watchman who comes late hands nothing over
                self._job = None
                return True
            if self._closed or self._free == _SPARE:
                return False
            self._free += 1
        self._turn.acquire()  # no deadline: a spare thread; whoever leaves, or `_close`, wakes it
        return not self._closed

    def _hand_over(self, job: _Job) -> None:
        """Let another thread receive."""
        with self._lock:
            if not job.leads:
                return
            job.leads = False
            self._job = None
            if self._closed:
                return
            if self._free:
                self._free -= 1
                self._turn.release()
            else:
                self._start(self._lead)

    def _watch(self) -> None:
        idle, seen, tick = 0, 0, TICK
        while not self._closed:
            self._busy.wait()  # no deadline: nothing is to be watched; a job or `_close` ends it
            time.sleep(tick)
            with self._lock:
                job, idle, seen = self._job, 0 if self._jobs != seen else idle + 1, self._jobs
                if job is None and idle > _IDLE and not self._closed:
                    self._busy.clear()
            tick = TICK if job is not None else min(2 * tick, _SELDOM)
            if job is not None and job.old:
                self._hand_over(job)
            elif job is not None:
                job.old = True

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            free, self._free = self._free, 0
        for _ in range(free):
            self._turn.release()
        self._busy.set()
