"""Threads that share the work of native steps: parked in machine code, they spin, then sleep."""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any, Final

import numpy as np

from graphflow.compile.native import runtime
from graphflow.compile.native.jit import Code, function, load

MOST: Final = runtime.HELPERS + 1


class Team:
    """A caller and its helpers, who take the shares of a step.

    One step runs at a time; who finds the team busy does all shares by itself, with the same
    result.  Helpers start with the first step and end with `close`.  A forked child starts its
    own.
    """

    def __init__(self, shares: int, threads: int = 0):
        """Args:
        shares: that steps are cut in, at most `MOST`.
        threads: that take them, the caller's included; 0: one for each share.
        """
        self.shares = shares
        self.threads = min(threads or shares, shares)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._pid = 0
        self._code: Code | None = None

    def run(self, step: int, phases: int, serial: Any, table: int) -> None:
        """Run all shares of the phases of `step` with the helpers, or `serial` here."""
        if self._pid != os.getpid() and self._pid:
            self._lock = threading.Lock()  # the parent's may have been held
        if not self._lock.acquire(blocking=False):
            serial(table)
            return
        try:
            if self._pid != os.getpid():
                self._open()
            self._start(self._address, step, table, phases, self.shares)
        finally:
            self._lock.release()

    def _open(self) -> None:
        code = self._code = self._code or load(runtime.TEXT)
        self._sync = np.zeros(runtime.WORDS, np.int64)
        self._address = self._sync.ctypes.data
        libc = ctypes.CDLL(None)
        for word, name in ((runtime.YIELD, "sched_yield"), (runtime.WAIT, "sem_wait"),
                           (runtime.POST, "sem_post")):  # fmt: skip
            self._sync[word] = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        start = code.address("start")
        self._start = function(start, pointer, pointer, pointer, number, number)
        self._wake = function(code.address("wake"), pointer)
        helper = function(code.address("helper"), pointer, number, number)
        self._threads = []
        for worker in range(self.threads):
            at = self._address + 8 * (runtime.SEMAPHORES + 16 * worker)
            libc.sem_init(ctypes.c_void_p(at), 0, 0)
        for worker in range(1, self.threads):
            thread = threading.Thread(
                target=helper,
                args=(self._address, worker, self.shares),
                name=f"graphflow-worker-{worker}",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)
        self._pid = os.getpid()

    def close(self) -> None:
        """End the helpers; the next step starts them again."""
        with self._lock:
            if self._pid == os.getpid():
                self._sync[runtime.STOP] = 1
                self._wake(self._address)
                for thread in self._threads:
                    while thread.is_alive():
                        self._wake(self._address)
                        thread.join(0.01)
            self._threads = []
            self._pid = 0
