"""An exchange and its workers within one process: what the workers do, and how they are asked."""

from __future__ import annotations

import threading

from graphflow.distribute.fast.exchange import NOBODY
from graphflow.distribute.fast.frames import Kind
from graphflow.distribute.messages import Applied, Prepared, Step, Ticket
from tests.until import PATIENCE

SESSION = b"s" * 16


class Echo:
    """Stands in for a host: steps give their feeds back, and wait where they are told to."""

    def __init__(self):
        self.go_on = threading.Event()
        self.notices = []

    def step(self, step):
        if step.plan == 7:
            assert self.go_on.wait(PATIENCE)
        if step.plan == 8:
            raise RuntimeError("of the host")
        values = [object()] if step.plan == 9 else step.feeds
        return Prepared(step.ticket, 0, values, 0)

    def notice(self, notice):
        self.notices.append(notice)
        return Applied(0)


class Answer:
    """What comes, taken up by the thread that wants it."""

    def __init__(self, exchange):
        self.bell = exchange.bell()
        self.came = []

    def hear(self, what):
        with self.bell:
            self.came.append(what)
            self.bell.notify_all()

    def result(self, patience=PATIENCE):
        with self.bell:
            assert self.bell.wait_for(lambda: self.came, patience)
        return self.came[0]

    def done(self):
        with self.bell:
            self.bell.wait_for(lambda: self.came, 0.01)
        return bool(self.came)


def ask(exchange, worker, message, session=SESSION):
    answer = Answer(exchange)
    exchange.send(worker, session, Kind.MESSAGE, answer.hear, message, collect=answer.hear)
    return answer


def ping(exchange, worker):
    answer = Answer(exchange)
    exchange.send(worker, NOBODY, Kind.PING, answer.hear)
    return answer


def step(plan, *feeds):
    return Step(1, (), Ticket(0, 1, 1), plan, feeds, False)


def gone(answer):
    """The worker is lost; whoever waits for it is told, and others go on."""
    assert answer.result().worker_lost
    return answer.result().reason
