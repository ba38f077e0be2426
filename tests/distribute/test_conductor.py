"""Threads of the driver that wait while others take up what they wait for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import graphflow as tf
from graphflow.distribute.events import Wake
from tests.distribute.in_process import InProcess
from tests.until import PATIENCE, asleep, until

LONG = 4000.0  # seconds: nobody is woken to see whether workers live


def test_a_copy_of_the_state_is_noticed_though_another_thread_took_it_up(graph):
    with (
        InProcess(2, deadline=LONG, every=10) as cluster,
        tf.Session(cluster=cluster) as session,
        ThreadPoolExecutor(1) as pool,
    ):
        conductor = session.target.conductor

        def hears(worker, message=None):
            def hear(answer):
                with conductor._lock:  # as the thread of a run that ends does
                    conductor._inbox.append((worker, 0, message, answer))
                    conductor._take_up()

            return hear

        conductor._hears = hears
        assert len(pool.submit(conductor.capture).result(PATIENCE)) == 2


def test_a_run_goes_on_when_another_thread_has_told_it_to_rest(graph):
    queue = tf.FIFOQueue(1, [tf.float32], shapes=[[]])
    value, put = queue.dequeue(), queue.enqueue(1.0)
    with (
        InProcess(2, deadline=LONG) as cluster,
        tf.Session(cluster=cluster) as session,
        ThreadPoolExecutor(1) as pool,
    ):
        conductor = session.target.conductor
        waiting = pool.submit(session.run, value)
        until(lambda: conductor._outcomes and asleep(conductor._bell))
        ((number, outcome),) = conductor._outcomes.items()
        handle = conductor._machine.handle
        with conductor._lock:
            conductor._machine.handle = lambda event: [Wake(number, 0.0)]
            conductor._handle(None)
            conductor._machine.handle = handle
        try:
            until(lambda: outcome.wakes is None)
        finally:
            session.run(put)
        assert waiting.result(PATIENCE) == 1.0
