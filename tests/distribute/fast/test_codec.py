"""Plain data in, the same messages out, and nothing else whatever comes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphflow.base import dtypes, errors
from graphflow.distribute.fast import frames
from graphflow.distribute.fast.codec import HEAD_LIMIT, decode, encode
from graphflow.distribute.fast.frames import MAGIC, Frame, Gate, Kind, parse
from graphflow.distribute.fast.values import Malformed, Unencodable
from graphflow.distribute.messages import (
    OUTPUT,
    WRITES,
    Applied,
    Decision,
    Notice,
    Prepared,
    Rebuild,
    Refused,
    Replay,
    Save,
    Step,
    Ticket,
    Verdict,
)
from graphflow.execute.trace import Span

TICKET = Ticket(1, 2, 3)
DECISIONS = (Decision(7, TICKET, Verdict.COMMIT), Decision(8, Ticket(1, 3, 4), Verdict.RETRY))
SESSION = bytes(range(16))


def there_and_back(message):
    head, arrays = encode(message)
    return decode(head, [bytes(a) for a in arrays])


def same(a, b):
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes() if a.dtype != object else (a == b).all()
    elif isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert type(a) is type(b)
        assert a == b


ELEMENTS = [t.np for t in vars(dtypes).values() if isinstance(t, dtypes.DType)]
numbers = st.sampled_from([t for t in ELEMENTS if t.kind in "iufcb"]).flatmap(
    lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
strings = hnp.arrays(object, st.integers(0, 3), elements=st.one_of(st.text(), st.binary()))
leaves = st.one_of(
    numbers, strings, st.none(), st.booleans(), st.integers(), st.text(), st.binary(),
    st.floats(allow_nan=False),
)  # fmt: skip
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(values, max_size=4))
def test_values_come_back_as_they_were(feeds):
    step = Step(3, DECISIONS, TICKET, 4, feeds, True)
    back = there_and_back(step)
    assert back[:4] == step[:4]
    assert isinstance(back.decisions[1].ticket, Ticket)
    assert back.decisions[1].verdict is Verdict.RETRY
    same(list(back.feeds), feeds)


def test_all_messages_come_back():
    spans = (Span("a", "Add", "/cpu:0", 0.5, 1e-3),)
    for message in (
        Notice(1, ()),
        Notice(2, DECISIONS, 3),
        Save(3, DECISIONS, 1, 2, 0),
        Prepared(TICKET, 3, (None,), WRITES, spans),
        Refused(TICKET, 3, None, TICKET),
        Applied(4, ()),
    ):
        back = there_and_back(message)
        assert back == message
        assert type(back) is type(message)


def test_errors_keep_class_node_code_and_notes():
    error = errors.OutOfRangeError("queue/dequeue", None, "the end", 42)
    error.add_note("built at a.py:3")
    back = there_and_back(Refused(TICKET, 0, error)).error
    assert type(back) is errors.OutOfRangeError
    assert (back.node_def, back.message, back.error_code) == ("queue/dequeue", "the end", 42)
    assert back.__notes__ == ["built at a.py:3"]


def test_numpy_scalars_and_lists_keep_their_type():
    values = [np.float64(0.1), np.bool_(True), [1, (np.int8(2),)]]
    back = there_and_back(Prepared(TICKET, 0, values, 0)).values
    assert [type(v) for v in back] == [np.float64, np.bool_, list]
    assert back[0] == 0.1
    assert back[2] == [1, (2,)]
    assert type(back[2][1][0]) is np.int8


def test_what_was_taken_from_outside_comes_back():
    inputs = {"/cpu:0": ([(np.float32(1.5), b"x")], None), "/cpu:1": ()}
    back = there_and_back(Prepared(TICKET, 0, [], OUTPUT, inputs=inputs)).inputs
    assert back == inputs
    replay = Replay(inputs, True)
    back = there_and_back(Step(1, (), TICKET, 1, [], False, replay)).replay
    assert back == replay
    assert type(back) is Replay


def test_arrays_in_any_layout_and_byte_order():
    x = np.arange(6, dtype=">i4").reshape(2, 3).T
    (value,) = there_and_back(Prepared(TICKET, 0, [x], 0)).values
    np.testing.assert_array_equal(value, x)
    assert value.dtype == np.int32
    assert not value.flags.writeable


def test_bfloat16_is_an_element_type_as_any_other():
    x = np.arange(3).astype(dtypes.as_dtype("bfloat16").np)
    (value,) = there_and_back(Prepared(TICKET, 0, [x], 0)).values
    assert value.dtype == x.dtype
    np.testing.assert_array_equal(value, x)


class Odd(errors.OpError):
    pass


@pytest.mark.parametrize(
    "value",
    [object(), {"a": 1}, TICKET, Verdict.COMMIT, np.array([{}], object), np.zeros(1, "V3"),
     Odd("n", None, "m"), errors.InternalError(object(), None, "m")],
)  # fmt: skip
def test_what_is_no_plain_data_is_not_sent(value):
    with pytest.raises(Unencodable):
        encode(Prepared(TICKET, 0, [value], 0))


def test_other_messages_are_not_sent():
    with pytest.raises(Unencodable, match="Rebuild"):
        encode(Rebuild(1, 0, {"a": 1}))


def wrong(*change):
    head, arrays = encode(Step(1, DECISIONS, TICKET, 4, [np.zeros((2, 3), np.float32)], False))
    data = [head[:1], *msgspec.msgpack.decode(head[1:])]
    at = data
    for key in change[:-2]:
        at = at[key]
    at[change[-2]] = change[-1]
    return data[0] + msgspec.msgpack.encode(data[1:]), [bytes(a) for a in arrays]


@pytest.mark.parametrize(
    "change",
    [
        (0, b""), (0, b"\x03"), (0, b"\xff"),
        (1, "1"), (1, True), (1, 1.0), (2, {}), (2, 0, 2, "keep"),
        (7, {}), (7, [[], True]), (7, [{"a": 3}, True]),
        (2, 0, 1, [1, 2]), (3, [1, 2, 3, 4]), (5, None), (5, 0, {}), (5, 0, {"x": 1}),
        (5, 0, "a", 1), (5, 0, "a", -1), (5, 0, "a", "0"), (5, 0, "s", [2, 4]),
        (5, 0, "s", [-2, -3]), (5, 0, "s", [1 << 63, 0]), (5, 0, "s", [1] * 65), (5, 0, "d", "V9"),
        (5, 0, "d", "object"), (5, 0, {"o": ["a"], "s": [2]}), (5, 0, {"o": [3], "s": [1]}),
        (5, 0, {"i": "one"}), (5, 0, {"i": 1}), (5, 0, {"o": [None], "s": [1]}), (6, 1),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_malformed(change):
    with pytest.raises(Malformed):
        decode(*wrong(*change))


def test_hard_bounds():
    head, _ = encode(Step(1, DECISIONS, TICKET, 4, [], False))
    for deep in (b"\x91" * 100_000, b"\x81\xa1l\x91" * 100_000):
        with pytest.raises(Malformed):
            decode(head.replace(b"\x90", deep), ())
    with pytest.raises(Malformed):
        decode(head[:1] + b" " * HEAD_LIMIT, ())
    with pytest.raises(Malformed):  # a list that is longer than memory
        decode(head.replace(b"\x90", b"\xdd\xff\xff\xff\xff"), ())
    with pytest.raises(Malformed):
        decode(wrong(5, 0, {"i": "1" * 5000})[0], ())
    with pytest.raises(Unencodable):
        encode(Prepared(TICKET, 0, ["x" * HEAD_LIMIT], 0))


# ---- frames


def pack(frame):
    head, arrays = encode(frame.body) if frame.body is not None else (b"", [])
    return [frames.pack(*frame[:3], head), *map(bytes, arrays)]


MESSAGE = Frame(Kind.MESSAGE, SESSION, 5, Notice(1, DECISIONS))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_bring_the_parser_down(data):
    """Whole frames with a few bytes changed, removed or put in, and bytes at random."""
    step = Step(1, DECISIONS, TICKET, 4, [np.zeros(3), np.array(["a", b"b"], object)], False)
    parts = [bytearray(p) for p in pack(Frame(Kind.MESSAGE, SESSION, 5, step))]
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 4))):
            part = parts[data.draw(st.integers(0, len(parts) - 1))]
            at = data.draw(st.integers(0, len(part)))
            part[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    else:
        start = data.draw(st.sampled_from([b"", MAGIC, bytes(parts[0][:28])]))
        parts = [start + data.draw(st.binary()), *data.draw(st.lists(st.binary(), max_size=3))]
    gate = Gate()
    frame = gate.read([bytes(p) for p in parts])
    assert (frame is None) == (gate.dropped["malformed"] == 1)
    if frame is not None and frame.body is not None:
        pack(frame)  # what is taken is a message through and through


def test_frames_come_back():
    for frame in (MESSAGE, Frame(Kind.PING, SESSION, 2**64 - 1)):
        assert parse([bytes(p) for p in pack(frame)]) == frame


def test_a_frame_enters_once():
    gate = Gate()
    parts = [bytes(p) for p in pack(MESSAGE)]
    assert gate.enter(parts) == MESSAGE
    assert gate.enter(parts) is None
    assert gate.enter(pack(MESSAGE._replace(serial=4))) is None
    assert gate.enter(pack(MESSAGE._replace(serial=6))) is not None
    assert gate.enter([parts[0][:-1]]) is None
    assert gate.enter([pack(Frame(Kind.PING, SESSION, 9))[0] + b"x"]) is None
    assert gate.dropped == {"replayed": 2, "malformed": 2}
