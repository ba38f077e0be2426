"""Calls of several workers at once, by one who waits for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from graphflow.distribute.channel import Gone, Link


def gather(
    link: Link, method: str, arguments: Mapping[str, tuple[Any, ...]], patience: float
) -> tuple[dict[str, Any], set[str]]:
    """Call a method of several workers.

    Args:
      link: the way to them.
      method: its name.
      arguments: worker -> what it gets.
      patience: seconds to wait for the answers.

    Returns:
      Worker -> its answer, an error or `Gone`; and those that did not answer in time.
    """
    answers: dict[str, Any] = {}
    arrived = threading.Condition()

    def hears(worker: str) -> Callable[[Any], None]:
        def hear(answer: Any) -> None:
            with arrived:
                answers[worker] = answer
                arrived.notify_all()

        return hear

    for worker, each in arguments.items():
        link.call(worker, method, *each, hear=hears(worker))
    with arrived:
        arrived.wait_for(lambda: len(answers) == len(arguments), patience)
        found = dict(answers)
    late = arguments.keys() - found.keys()
    reason = f"it did not answer {method!r} within {patience:g} s"
    return {worker: found.get(worker, Gone(reason)) for worker in arguments}, late
