"""The leak check catches each kind of leak, and only leaks."""

from pathlib import Path

import pytest

from tests import leaks
from tests.growth import calls

# One run for all cases: starting pytest takes half a second.
CASES = """
import os, subprocess, sys, threading, time
from multiprocessing import shared_memory
from pathlib import Path
import pytest
from tests import leaks

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
kept = []


@pytest.fixture(autouse=True)
def grace(request):
    # Short where it is waited for; a busy machine may need a long one.
    leaks.GRACE = 0.2 if "leaks" in request.node.name else 20.0


def linger(name="lingers"):
    thread = threading.Thread(target=time.sleep, args=(60,), name=name, daemon=True)
    thread.start()


def sleeper(*args):
    child = subprocess.Popen([*SLEEP, *args])
    kept.append(child)


@pytest.fixture(scope="session")
def cluster():
    linger()
    sleeper()
    kept.append(open(os.devnull))


@pytest.fixture(scope="session", autouse=True)
def clean_up():
    yield
    for thing in kept:
        if isinstance(thing, subprocess.Popen):
            thing.kill()
            thing.wait()
        elif isinstance(thing, shared_memory.SharedMemory):
            thing.unlink()
        elif isinstance(thing, Path):
            thing.unlink()
        else:
            thing.close()


def test_leaks_thread():
    linger()

def test_leaks_descriptor(tmp_path):
    kept.append(open(tmp_path / "left_open.txt", "w"))

def test_leaks_pipe():
    kept.extend(os.fdopen(fd, mode) for fd, mode in zip(os.pipe(), "rw"))

def test_leaks_child():
    sleeper()

def test_leaks_zombie():
    kept.append(subprocess.Popen([sys.executable, "-c", ""]))
    os.waitid(os.P_PID, kept[-1].pid, os.WEXITED | os.WNOWAIT)

def test_leaks_segment():
    segment = shared_memory.SharedMemory(create=True, size=64)
    segment.close()
    kept.append(segment)

def test_leaks_own_segment():
    path = Path(f"/dev/shm/graphflow-{os.getpid()}-test")
    path.write_bytes(b"x")
    kept.append(path)

@pytest.mark.ray
def test_leaks_beside_ray(tmp_path):
    linger()
    sleeper()
    kept.append(open(tmp_path / "left_open.txt", "w"))

def test_clean_ray_is_no_excuse_without_the_mark():
    pass

def test_leaks_thread_named_like_rays():
    linger("ray_listen_error_messages")


def test_clean_all_kinds(tmp_path):
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    with open(tmp_path / "f", "w"):
        pass
    subprocess.run([sys.executable, "-c", ""])
    segment = shared_memory.SharedMemory(create=True, size=64)
    segment.close()
    segment.unlink()
    thread.join()

def test_clean_stops_within_grace():
    threading.Thread(target=time.sleep, args=(0.1,)).start()

def test_clean_cycle():
    class Holder:
        def __init__(self):
            self.me = self
            self.fds = os.pipe()
        def __del__(self):
            for fd in self.fds:
                os.close(fd)
    Holder()

def test_clean_session_fixture(cluster):
    pass

def test_clean_permanent(tmp_path):
    with leaks.permanent():
        linger()
        sleeper()
        kept.append(open(tmp_path / "kept_open.txt", "w"))

@pytest.mark.ray
def test_clean_ray(tmp_path):
    linger("ray_listen_error_messages")
    sleeper("/site-packages/ray/core/raylet")
    (tmp_path / "ray" / "session_1").mkdir(parents=True)
    kept.append(open(tmp_path / "ray" / "session_1" / "log", "w"))

def test_fails_and_leaks():
    linger()
    assert 1 == 2
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", str(root))
    pytester.makeconftest('pytest_plugins = ["tests.leaks"]')
    pytester.makepyfile(CASES)
    return pytester.runpytest_subprocess("-rA", "-p", "no:cacheprovider")


def test_every_kind_is_caught_and_nothing_else_is(run):
    outcome = {
        line.split("::")[1].split()[0]: word
        for line in run.outlines
        if (word := line.split(" ")[0]) in ("PASSED", "ERROR", "FAILED") and "::" in line
    }
    leaky = {name for name, word in outcome.items() if word == "ERROR"}
    assert leaky == {name for name in outcome if name.startswith("test_leaks_")}
    assert sum(name.startswith("test_leaks_") for name in outcome) == 9
    assert sum(name.startswith("test_clean_") for name in outcome) == 7
    assert outcome["test_fails_and_leaks"] == "FAILED"  # and no error on top of it

    said = "\n".join(run.outlines)
    for words in [
        "test_leaks_thread left behind, 0.2 s after its end:\n  thread: lingers (Thread) at ",
        " > threading.py:",
        "  file descriptor: ",
        "left_open.txt",
        "-> pipe:[",
        "import time; time.sleep(60)",
        "(ended, not waited for)",
        "  shared memory: /dev/shm/psm_",
        "  shared memory: /dev/shm/graphflow-",
        "under leaks.permanent()",
    ]:
        assert words in said, words


def test_costs_little():
    def once() -> None:
        before = leaks.snapshot()
        assert leaks.leaks(before, beside_ray=False) == []

    once()
    assert calls(once) < 250  # two looks: 111 calls, 0.05 ms


def test_segments_of_other_processes_are_not_ours(tmp_path):
    other = leaks.Resource("shared memory", "graphflow-1-x", "/dev/shm/graphflow-1-x")
    mine = leaks.Resource("shared memory", f"graphflow-{leaks.os.getpid()}-x", "")
    assert not leaks.is_ours(other)
    assert leaks.is_ours(mine)
