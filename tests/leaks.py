"""A test must leave no thread, file descriptor, child process or shared memory segment behind.

The fixture `no_leaks` runs around every test, inside all fixtures of a wider scope: what a session
fixture starts is no leak of the test that came first. What must outlive a test for another reason
(a pool kept for the life of the process, a lazily started cluster) is started under `permanent()`.

Ray opens and closes threads, sockets and processes when it likes. While it runs, and in tests
marked `ray`, what is visibly Ray's or could be is left out: see `may_be_rays`.

Threads of native libraries (BLAS, gRPC, ZeroMQ) are not seen: Python does not list them.
"""

import gc
import multiprocessing.resource_tracker as tracker
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Seconds that a thread or process which has been told to stop gets for it, and after which a cycle
# is looked for: that takes 50 ms and more, where most have stopped in one.
GRACE = 20.0  # a busy machine may stop it for several
SOON = 0.02

SHM = Path("/dev/shm")
FAILED = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Resource:
    kind: str  # "thread", "file descriptor", "child process" or "shared memory"
    key: Any
    label: str = field(compare=False)


_permanent: set[Resource] = set()
_segments_made: set[str] = set()  # names that this process created, through Python's SharedMemory


def _note_segment(name: str, rtype: str, register: Any = tracker.register) -> None:
    if rtype == "shared_memory":
        _segments_made.add(name.lstrip("/"))
    register(name, rtype)


# SharedMemory registers each segment it creates; nothing else tells whose a "psm_…" file is, and
# other processes on the machine make them, too.
tracker.register = _note_segment  # type: ignore[assignment]


def threads() -> Iterator[Resource]:
    for thread in threading.enumerate():
        yield Resource("thread", thread, f"{thread.name} ({type(thread).__name__})")


def descriptors() -> Iterator[Resource]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")
        except OSError:  # the listing's own
            continue
        if int(fd) != tracker._resource_tracker._fd:
            yield Resource("file descriptor", (fd, target), f"{fd} -> {target}")


def children() -> Iterator[Resource]:
    try:  # 1 us in the usual case, no child at all, against 10 us per thread below
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            pids = listing.read_text().split()
        except OSError:  # the thread has ended
            continue
        for pid in pids:
            if int(pid) != tracker._resource_tracker._pid:
                yield Resource("child process", pid, f"{pid} {command_line(pid)}")


def command_line(pid: str) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "(gone)"
    return raw.replace(b"\0", b" ").decode(errors="replace").strip() or "(ended, not waited for)"


def segments() -> Iterator[Resource]:
    for name in os.listdir(SHM):
        yield Resource("shared memory", name, f"{SHM}/{name}")


def snapshot() -> set[Resource]:
    return {*threads(), *descriptors(), *children(), *segments()}


def is_ours(segment: Resource) -> bool:
    """Whether this process, or a worker it owns, made the segment: others share /dev/shm.

    graphflow names its segments `graphflow-<pid of the driver>-…`.
    """
    name = segment.key
    return (
        name in _segments_made
        or name.startswith(f"graphflow-{os.getpid()}-")
        or f"{SHM}/{name}" in Path("/proc/self/maps").read_text()
    )


def may_be_rays(leak: Resource) -> bool:
    """Whether Ray may have made it, on its own account, in this process."""
    if leak.kind == "thread":
        return leak.key.name.startswith("ray_") or leak.key.name == "PythonGCThread"
    if leak.kind == "file descriptor":
        target = leak.key[1]
        return not target.startswith("/") or target == "/dev/null" or "/ray/session_" in target
    if leak.kind == "child process":
        return "/ray/" in leak.label or " ray::" in leak.label
    return False


def leaks(before: set[Resource], *, beside_ray: bool) -> list[Resource]:
    new = snapshot() - before - _permanent
    if beside_ray:
        new = {leak for leak in new if not may_be_rays(leak)}
    new = {leak for leak in new if leak.kind != "shared memory" or is_ours(leak)}
    return sorted(new, key=lambda leak: (leak.kind, leak.label))


def standing(leak: Resource) -> str:
    """Where a thread is, the innermost line last."""
    frame = sys._current_frames().get(leak.key.ident) if leak.kind == "thread" else None
    if frame is None:
        return ""
    lines = traceback.extract_stack(frame)[-4:]
    return " at " + " > ".join(f"{Path(s.filename).name}:{s.lineno} {s.name}" for s in lines)


def ray_is_up() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@contextmanager
def permanent() -> Iterator[None]:
    """What starts in this block may outlive the test, on purpose."""
    before = snapshot()
    yield
    _permanent.update(snapshot() - before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something running, open or allocated."""
    before = snapshot()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback holds what its frames held
    marked = request.node.get_closest_marker("ray") is not None
    begin = time.monotonic()
    pause = 0.001
    while left := leaks(before, beside_ray=marked or ray_is_up()):
        passed = time.monotonic() - begin
        if passed > GRACE:
            lines = "\n".join(f"  {leak.kind}: {leak.label}{standing(leak)}" for leak in left)
            pytest.fail(
                f"{request.node.nodeid} left behind, {GRACE:g} s after its end:\n{lines}\n"
                "Close or join it, or start it in a wider fixture or under leaks.permanent().",
                pytrace=False,
            )
        if passed > SOON:
            gc.collect()  # what only a cycle keeps alive is not a leak
        time.sleep(pause)
        pause = min(0.1, 2 * pause)
