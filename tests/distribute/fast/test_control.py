"""The control channel between an exchange and its workers: messages, answers, losses."""

from __future__ import annotations

import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from graphflow.base.errors import UnavailableError
from graphflow.distribute.channel import Gone
from graphflow.distribute.fast import service as service_module
from graphflow.distribute.fast.exchange import Exchange
from graphflow.distribute.fast.frames import Kind
from graphflow.distribute.fast.link import FastLink
from graphflow.distribute.fast.service import Service
from graphflow.distribute.messages import UNKNOWN_SESSION, Applied, Notice, Prepared, Ticket
from tests.distribute.fast.asking import SESSION, Answer, Echo, ask, gone, ping, step
from tests.until import PATIENCE, until

OTHER = b"o" * 16


def test_messages_and_answers_with_arrays_of_any_size(exchange, services):
    for size in (0, 1, 3, 100_000):
        x = np.arange(size, dtype=np.float32)
        answers = [ask(exchange, name, step(1, x, 2.5)) for name in services]
        for answer in answers:
            got, number = answer.result().values
            np.testing.assert_array_equal(got, x)
            assert got.flags.aligned
            assert number == 2.5
    assert not exchange.dropped


def test_notices_and_pings_pass_steps_that_wait(exchange, services):
    waiting = [ask(exchange, "a", step(7)) for _ in range(20)]
    for _ in range(3):
        assert ask(exchange, "a", Notice(1, ())).result() == Applied(0)
        assert ping(exchange, "a").result() is None
    assert not any(w.done() for w in waiting)
    services["a"]._find(SESSION).go_on.set()
    for each in waiting:
        assert isinstance(each.result(), Prepared)


def test_from_many_threads(exchange, services):
    def work(i):
        for k in range(20):
            got = ask(exchange, "ab"[i % 2], step(1, i * 100 + k)).result()
            assert got.values == (i * 100 + k,)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_what_fails_at_the_worker_is_no_loss_of_it(exchange, services):
    gone = ask(exchange, "a", step(8)).result()
    assert not gone.worker_lost
    assert "of the host" in gone.reason
    gone = ask(exchange, "a", step(1), session=b"x" * 16).result()
    assert gone == Gone(UNKNOWN_SESSION, worker_lost=False)


def test_an_answer_that_is_no_plain_data_is_left_for_another_way(exchange, services):
    serial = ask(exchange, "a", step(9)).result()
    assert isinstance(services["a"].collect(serial), Prepared)
    with pytest.raises(KeyError):
        services["a"].collect(serial)


def test_answers_that_nobody_collects_are_kept_for_open_sessions_and_not_for_ever(
    exchange, monkeypatch
):
    monkeypatch.setattr(service_module, "_LEFT", 3)
    sessions = {SESSION: Echo(), OTHER: Echo()}
    service = Service(exchange.invite("a"), sessions.get)
    exchange.greet("a", PATIENCE)
    try:
        kept = ask(exchange, "a", step(9), OTHER).result()
        del sessions[OTHER]
        serials = [ask(exchange, "a", step(9)).result() for _ in range(5)]
        for serial in serials[-3:]:
            assert isinstance(service.collect(serial), Prepared)
        for serial in (kept, *serials[:-3]):
            with pytest.raises(KeyError):
                service.collect(serial)
    finally:
        service.close()


def test_who_receives_never_waits_at_a_connection_of_another():
    """One that is made while he is about to wait, when his own has been closed."""
    arrived, go_on = threading.Event(), threading.Event()

    class Late(Echo):
        """A host from whose first step on polls wait before they look."""

        late = False

        def step(self, step):
            self.late = True
            return super().step(step)

        def poll(self, patience):
            if self.late:
                arrived.set()
                assert go_on.wait(PATIENCE)
            return readable.poll(patience)

    exchange = Exchange("127.0.0.1")
    try:
        host = Late()
        service = Service(exchange.invite("a"), {SESSION: host}.get)
        exchange.greet("a", PATIENCE)
        readable, service._way._readable = service._way._readable, host
        ask(exchange, "a", step(1)).result()
        assert arrived.wait(PATIENCE)
        number = service._way._connection.fileno()
        service.close()
        others = [socket.socketpair() for _ in range(4)]
        assert number not in [end.fileno() for pair in others for end in pair]
        go_on.set()
    finally:
        exchange.close()
    until(lambda: service._way._connection.fileno() < 0)
    for pair in others:
        for end in pair:
            end.close()


def test_the_end_of_a_worker_is_told_at_once_to_all_who_wait(exchange, services):
    waiting = [ask(exchange, "a", step(7)) for _ in range(3)]
    other = ask(exchange, "b", step(7))
    ping(exchange, "a").result()
    services["a"].close()
    for each in waiting:
        assert each.result() == Gone("its connection has ended")
    assert ask(exchange, "a", step(1)).result().worker_lost
    assert not other.done()
    for service in services.values():
        service._find(SESSION).go_on.set()
    other.result()


@pytest.mark.parametrize("where", ["taken", "answered"])
def test_memory_that_ends_at_a_message_ends_the_connection(
    exchange, services, monkeypatch, caplog, where
):
    """The worker lives, and gives signs of life: nobody else would tell that no answer comes."""

    def exhausted(*_):
        raise MemoryError("so a test wants it")

    if where == "taken":
        monkeypatch.setattr(services["a"]._gate, "enter", exhausted)
    else:
        monkeypatch.setattr(services["a"], "_reply", exhausted)
    gone = ask(exchange, "a", step(1)).result()
    assert gone == Gone("its connection has ended")
    until(lambda: "so a test wants it" in caplog.text)  # it tells that a moment later
    assert ask(exchange, "b", step(1, 3)).result().values == (3,)


def test_closing_tells_all_who_wait(exchange, services):
    waiting = ask(exchange, "a", step(7))
    exchange.close()
    assert waiting.result() == Gone("the cluster was closed")
    assert ask(exchange, "a", step(1)).result().worker_lost
    services["a"]._find(SESSION).go_on.set()


def test_a_worker_that_does_not_come_is_a_timeout(exchange):
    exchange.invite("late")
    with pytest.raises(TimeoutError, match="late"):
        exchange.greet("late", 0.05)


def test_late_news_of_one_who_was_replaced_do_not_end_the_other(exchange, services):
    old = exchange._members["a"]
    exchange.settle(old, "old name")
    exchange.lose("a", "replaced")
    new = Service(exchange.invite("a"), {SESSION: Echo()}.get)
    exchange.greet("a", PATIENCE)
    exchange.settle(exchange._members["a"], "new name")
    exchange.lose("a", "late", old)
    services["b"].report("old name")
    services["a"].close()
    assert ask(exchange, "b", step(1, 6)).result().values == (6,)
    assert ask(exchange, "a", step(1, 7)).result().values == (7,)
    waiting = ask(exchange, "a", step(7))
    services["b"].report("new name")
    assert waiting.result() == Gone("another worker has no connection to it any more")
    new._find(SESSION).go_on.set()
    new.close()


def test_a_worker_whose_answer_finds_no_memory_is_lost(exchange, services, monkeypatch):
    def exhausted(_):
        monkeypatch.undo()
        raise MemoryError("so a test wants it")

    monkeypatch.setattr(exchange._gate, "read", exhausted)
    assert gone(ask(exchange, "a", step(1))) in (
        "its connection has ended",
        "its answer cannot be read",
    )
    assert ask(exchange, "b", step(1, 3)).result().values == (3,)


@pytest.mark.parametrize("plan", [1, 8, 9], ids=["answer", "failure", "elsewhere"])
def test_an_error_of_who_hears_an_answer_is_not_the_workers(exchange, services, caplog, plan):
    """He hears that none will come; what else that worker owes comes."""
    answer, waiting = Answer(exchange), ask(exchange, "a", step(7))
    count = itertools.count()

    def hear(what):
        if next(count) == 0:
            raise MemoryError("so a test wants it")
        answer.hear(what)

    exchange.send("a", SESSION, Kind.MESSAGE, hear, step(plan), collect=hear)
    assert answer.result() == Gone("MemoryError: so a test wants it", worker_lost=False)
    assert "so a test wants it" in caplog.text
    services["a"]._find(SESSION).go_on.set()
    assert isinstance(waiting.result(), Prepared)
    assert ask(exchange, "a", step(1, 3)).result().values == (3,)


def test_who_cannot_even_hear_that_no_answer_comes_loses_the_worker(exchange, services):
    """Else he would wait for ever."""
    waiting = ask(exchange, "a", step(7))

    def hear(what):
        raise MemoryError("so a test wants it")

    exchange.send("a", SESSION, Kind.MESSAGE, hear, step(1))
    gone(waiting)
    services["a"]._find(SESSION).go_on.set()
    assert ask(exchange, "b", step(1, 3)).result().values == (3,)


def test_all_hear_of_a_loss_whatever_one_of_them_raises(exchange, services, caplog):
    class Listener:
        def lost(self, worker, reason):
            raise MemoryError(reason)

    def hear(what):
        raise MemoryError(what.reason)

    listeners = [Listener() for _ in range(3)]
    exchange.audience.update(listeners)
    first = ask(exchange, "a", step(7))
    exchange.send("a", SESSION, Kind.MESSAGE, hear, step(7))
    last = ask(exchange, "a", step(7))
    exchange.lose("a", "killed by a test")
    assert first.result() == last.result() == Gone("killed by a test")
    assert caplog.text.count("MemoryError: killed by a test") == 4
    services["a"]._find(SESSION).go_on.set()


def test_a_worker_that_does_not_join_is_tried_no_longer_whatever_the_reason(exchange):
    """Not for as long as one may take to start."""

    class Network:
        def __init__(self):
            self.exchange = exchange

        def join(self, actors, workers):
            raise KeyError(*workers)

    class Slow:
        def replace(self, worker, hear):
            hear(None)

    heard = []
    FastLink(SESSION.hex(), Network(), Slow(), {}).replace("a", heard.append)
    until(lambda: heard)
    assert heard == [Gone("KeyError: 'a'")]


def test_threads_of_two_bells_hear_each_other(exchange, services):
    """One of them receives for both."""
    slow, quick = ask(exchange, "a", step(7)), ask(exchange, "b", step(7))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(slow.result), pool.submit(quick.result)
        for name, answer in (("b", second), ("a", first)):
            services[name]._find(SESSION).go_on.set()
            assert answer.result(PATIENCE).ticket == Ticket(0, 1, 1)


@pytest.mark.parametrize("exchange", [True], indirect=True)
def test_threads_that_python_does_not_know_may_tell_of_a_loss(exchange, services):
    """Ray's are such: to ask for the current thread would make it known for ever."""
    import _thread

    told = _thread.allocate_lock()
    told.acquire()

    def tell():
        exchange.lose("a", "it has ended")
        told.release()

    waiting = ask(exchange, "a", step(7))
    _thread.start_new_thread(tell, ())
    told.acquire()
    assert waiting.result() == Gone("it has ended")
    services["a"]._find(SESSION).go_on.set()


def test_a_worker_that_is_lost_while_it_connects_is_not_waited_for():
    exchange = Exchange("127.0.0.1")
    try:
        exchange.invite("w")
        killer = threading.Timer(0.05, exchange.lose, ("w", "killed by a test"))
        killer.start()
        with pytest.raises(UnavailableError, match="w was lost while it connected"):
            exchange.greet("w", 60)
        killer.join()
    finally:
        exchange.close()
