"""Messages that are the same for many workers, or of many."""

import numpy as np
import pytest

from graphflow.distribute.fast import codec, repeats
from graphflow.distribute.messages import Decision, Prepared, Step, Ticket, Verdict

FIRST, SECOND = Ticket(0, 1, 1), Ticket(0, 2, 2)


def step(ticket=SECOND, feeds=()):
    return Step(2, (Decision(1, FIRST, Verdict.COMMIT),), ticket, 7, feeds, False)


def vote(ticket=SECOND, values=()):
    return Prepared(ticket, 1, values, 0, changes=False)


@pytest.fixture
def counted(monkeypatch):
    """What is encoded and decoded, each time."""
    done = []
    for name in ("encode", "decode"):
        real = getattr(codec, name)

        def count(*arguments, name=name, real=real):
            done.append(name)
            return real(*arguments)

        monkeypatch.setattr(codec, name, count)
    return done


def test_a_step_is_encoded_once_for_all_who_get_the_same(counted):
    encode = repeats.Encoder()
    heads = [encode(step())[0] for _ in range(3)]
    assert counted == ["encode"]
    assert encode(step(Ticket(0, 3, 3))) != encode(step()) == (heads[0], [])
    assert heads == [codec.encode(step())[0]] * 3


def test_a_vote_is_decoded_once_if_all_say_the_same(counted):
    decode = repeats.Decoder()
    heads = [codec.encode(vote())[0] for _ in range(3)]
    counted.clear()
    assert [decode(memoryview(head), []) for head in heads] == [vote()] * 3
    assert counted == ["decode"]
    other = codec.encode(vote(FIRST))[0]
    assert decode(other, []) == vote(FIRST)
    assert decode(heads[0], []) == vote()


@pytest.mark.parametrize("value", [np.arange(3.0), 1.5, "x", [1]])
def test_what_holds_values_is_encoded_and_decoded_each_time(counted, value):
    encode, decode = repeats.Encoder(), repeats.Decoder()
    for _ in range(2):
        head, arrays = encode(step(feeds=(value,)))
        (found,) = decode(head, arrays).feeds
        np.testing.assert_array_equal(found, value)
        head, arrays = encode(vote(values=(value,)))
        (found,) = decode(head, arrays).values
        np.testing.assert_array_equal(found, value)
    assert counted == ["encode", "decode"] * 4
