"""Processes that are measured in turns: they sit still until they are asked."""

from __future__ import annotations

import multiprocessing
import select
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

JOB = b"k" * 32


class Asked:
    """A program that answers each line on its standard input with one."""

    def __init__(self, command: Sequence[str]):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        ready = self._process.stdout.readline().strip()
        if ready != "ready":
            raise RuntimeError(f"{command} says {ready!r} instead of 'ready'")

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Group:
    """Processes of one kind that know each other; each does what it is asked at the same time."""

    def __init__(self, kind: str, count: int, *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(count if kind == "sums" else 1):
            mine, theirs = context.Pipe()
            process = context.Process(
                target=_KINDS[kind], args=(theirs, rank, count, *arguments), daemon=kind == "sums"
            )
            process.start()
            self._pipes.append(mine)
            self._processes.append(process)
        places = [pipe.recv() for pipe in self._pipes]
        for pipe in self._pipes:
            pipe.send(places)

    def ask(self, *question: Any) -> list[Any]:
        """What each answers."""
        for pipe in self._pipes:
            pipe.send(question)
        return [pipe.recv() for pipe in self._pipes]

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(("end",))
        for process in self._processes:
            process.join(10)


def sums(pipe: Any, rank: int, world: int, size: int) -> None:
    """One worker of an all-reduce, by shared memory and by sockets."""
    from graphflow.distribute.channel import Meeting
    from graphflow.distribute.fast.channel import FastChannel, opened, place_of
    from graphflow.distribute.fast.peers import Access, Peers
    from graphflow.distribute.messages import Ticket
    from graphflow.execute.collective import Group as Members
    from graphflow.execute.collective import all_reduce
    from graphflow.execute.rendezvous import Rendezvous

    devices = tuple([f"/job:worker/replica:0/task:{i}/device:CPU:0" for i in range(world)])
    names = [device.rpartition("/")[0] for device in devices]
    meeting_points, peers, channels = {}, {}, {}
    for how in ("shared", "sockets"):
        access = Access(f"bench-{how}", JOB, "127.0.0.1", shared_memory=how == "shared")

        def take(frame: Any, how: str = how) -> None:
            meeting_points[how].send(*opened(frame)[2:])

        peers[how] = Peers(names[rank], access, take, place_of, lambda name: None)
        channel = channels[how] = FastChannel("bench", peers[how], None)  # type: ignore[arg-type]
        meeting_points[how] = Rendezvous(threading.Event(), deadline=60, bell=channel.bell())
    pipe.send({how: p.address for how, p in peers.items()})
    places = pipe.recv()
    for how, mine in peers.items():
        mine.meet({name: place[how] for name, place in zip(names, places, strict=True)})
    rng = np.random.default_rng(rank)
    own = rng.standard_normal(size // 4).astype(np.float32)
    steps = 0
    while (question := pipe.recv())[0] != "end":
        _, how, count = question
        times = []
        for _ in range(count):
            steps += 1
            ticket = Ticket(0, steps, steps)
            meeting = Meeting(
                ticket, channels[how], meeting_points[how], devices[rank : rank + 1], devices[rank]
            )
            group = Members(f"sum{steps}", devices, (own.shape,))
            _together(meeting, devices, rank, steps)
            start = time.perf_counter()
            all_reduce(meeting, group, devices[rank], {rank: [own]})
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))
    for mine in peers.values():
        mine.close()


def _together(meeting: Any, devices: Sequence[str], rank: int, step: int) -> None:
    """Begin at the same time, as PyTorch's measurement does."""
    others = [d for d in devices if d != devices[rank]]
    for other in others:
        meeting.send_to(other, f"begin{step}/{rank}", None)
    for other in others:
        meeting.receive(f"begin{step}/{devices.index(other)}")


def control(pipe: Any, rank: int, count: int) -> None:
    """A driver and its workers, which answer at once: the control channel alone."""
    from graphflow.distribute.fast.exchange import Exchange
    from graphflow.distribute.fast.frames import Kind
    from graphflow.distribute.messages import Step, Ticket

    context = multiprocessing.get_context("spawn")
    exchange = Exchange("127.0.0.1")
    workers = [f"w{i}" for i in range(count)]
    ends = []
    for worker in workers:
        mine, theirs = context.Pipe()
        context.Process(
            target=_answering, args=(theirs, exchange.invite(worker)), daemon=True
        ).start()
        ends.append(mine)
    for worker in workers:
        exchange.greet(worker, 60)
    pipe.send(None)
    pipe.recv()
    session = bytes(16)
    bell = exchange.bell()
    answers: list[Any] = []

    def hear(answer: Any) -> None:
        with bell:
            answers.append(answer)
            bell.notify_all()

    while (question := pipe.recv())[0] != "end":
        times = []
        for i in range(question[1]):
            answers.clear()
            start = time.perf_counter()
            for worker in workers:
                step = Step(i, (), Ticket(0, i, i), 1, [], False)
                exchange.send(worker, session, Kind.MESSAGE, hear, step)
            with bell:
                assert bell.wait_for(lambda: len(answers) == count, 60), "an answer did not come"
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))
    for end in ends:
        end.send(None)
    exchange.close()


def bare(pipe: Any, rank: int, count: int) -> None:
    """The system's calls of a step, and nothing else: a message to each of so many processes, which
    answer at once."""
    context = multiprocessing.get_context("fork")
    poll, ends = select.epoll(), {}
    for _ in range(count):
        mine, theirs = socket.socketpair()
        context.Process(target=_bare, args=(theirs, [mine, *ends.values()]), daemon=True).start()
        theirs.close()
        ends[mine.fileno()] = mine
        poll.register(mine, select.EPOLLIN)
    pipe.send(None)
    pipe.recv()
    message = bytes(80)
    while (question := pipe.recv())[0] != "end":
        times = []
        for _ in range(question[1]):
            start = time.perf_counter()
            for end in ends.values():
                end.send(message)
            missing = count
            while missing:
                for descriptor, _ in poll.poll():
                    ends[descriptor].recv(1 << 16)
                    missing -= 1
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))
    for end in ends.values():
        end.close()


def _bare(end: socket.socket, others: Sequence[socket.socket]) -> None:
    for other in others:
        other.close()
    while received := end.recv(1 << 16):
        end.send(received)


class _Echo:
    def step(self, step: Any) -> Any:
        from graphflow.distribute.messages import Prepared

        return Prepared(step.ticket, 0, (), 0)


def _answering(pipe: Any, invitation: Any) -> None:
    from graphflow.distribute.fast.service import Service

    echo: Any = _Echo()
    service = Service(invitation, lambda session: echo)
    pipe.recv()
    service.close()


_KINDS = {"sums": sums, "control": control, "bare": bare}
