"""Nonsense is refused with typed errors that name the user's line; nothing hangs or crashes."""

from __future__ import annotations

import resource
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import DTypeError, GraphError, OpError, ShapeError
from graphflow.build import Operation
from graphflow.differentiate.check import placeholder
from graphflow.ops.cases import Case
from tests.ops.nonsense import array, calls
from tests.ops.registered import cases_of, entries, needs_session, rule_of

# Their inputs are what only the library itself makes: lists of gradients, attributes of passes.
INTERNAL = (
    "Const", "CustomGradient", "EmptyList", "Keep", "OrthogonalFactor", "PyFuncStateless", "Recv",
    "ReducedCount", "Send", "Zeros",
)  # fmt: skip
ENTRIES = {
    name: entry
    for name, entry in entries().items()
    if entry.kernel is not None
    and (not needs_session(entry) or entry.random)
    and name not in INTERNAL
    and not name.startswith("List")
}
# Ops of variables, whose first input names one.
WRITES = {
    name: entry
    for name, entry in entries().items()
    if entry.writes and entry.rules[:1] == ("Handle",)
}
HERE = Path(__file__).name
# Less than 10^9 numbers of two bytes take: of eight, the system needs 20 s to find the pages.
MEMORY = 1_800_000_000


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """A process that may have so much more fails at huge arrays instead of filling the memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def refused(error: Exception) -> None:
    """An error of the right kind names the line that built the op."""
    notes = "\n".join(getattr(error, "__notes__", ()))
    assert HERE in notes, f"no line of the program: {error!r}"


def attempt(entry: Any, case: Case, hidden: bool) -> list[Any] | None:
    """The outputs; None where the call was refused as it should be."""
    with tf.Graph().as_default(), np.errstate(all="ignore"):
        try:
            inputs = [
                tf.constant(x)
                if i in entry.host and not hidden
                else placeholder(x, None if hidden else x.shape)
                for i, x in enumerate(case.inputs)
            ]
            result = entry(*inputs, **case.attrs)
        except (ShapeError, DTypeError, GraphError, TypeError, ValueError) as error:
            refused(error)
            return None
        first = result[0] if isinstance(result, tuple) else result
        operation = first if isinstance(first, Operation) else first.op
        fed = zip(inputs, case.inputs, strict=True)
        feeds = {t: x for t, x in fed if t.op.type == "Placeholder"}
        with tf.Session() as session:
            try:
                values = session.run(list(operation.outputs), feeds)
            except OpError as error:
                refused(error)
                if isinstance(error, (tf.errors.UnknownError, tf.errors.InternalError)):
                    raise
                return None
    for tensor, value in zip(operation.outputs, values, strict=True):
        array = np.asarray(value)
        assert tensor.dims is None or len(tensor.dims) == array.ndim
        if tensor.dtype is not tf.string:
            assert array.dtype == tensor.dtype.np
    return values


def drive(name: str, count: int, seed: int) -> None:
    entry = ENTRIES[name]
    for i, case in enumerate(calls(entry, count, seed)):
        start = time.process_time()  # without that of others on a busy machine
        try:
            attempt(entry, case, hidden=bool(i % 2))
        except BaseException as error:
            shown = [f"{x.dtype}{list(x.shape)} {x.tolist()}" for x in case.inputs]
            error.add_note(f"{name}({', '.join(shown)}; {dict(case.attrs)}), hidden={bool(i % 2)}")
            raise
        assert time.process_time() - start < 10, case


@pytest.mark.parametrize("name", ENTRIES)
def test_only_typed_errors_come_out(name: str) -> None:
    drive(name, 12, seed=0)


def narrow(name: str) -> Case | None:
    """The entry's first case in bfloat16, which NumPy turns into float32 where it can; None: it
    takes none."""
    entry, dtype = ENTRIES[name], tf.bfloat16
    for case in cases_of(entry):
        floats = [i for i, x in enumerate(case.inputs) if x.dtype == np.float64]
        if floats and all(rule_of(entry, i).allows(dtype) for i in floats):
            inputs = [x.astype(dtype.np) if x.dtype == np.float64 else x for x in case.inputs]
            return Case(tuple(inputs), case.attrs)
    return None


@pytest.mark.parametrize("name", [n for n in ENTRIES if narrow(n)])
def test_bfloat16_stays_what_it_is(name: str) -> None:
    case = narrow(name)
    assert case is not None
    attempt(ENTRIES[name], case, hidden=False)  # compares dtypes


VARIABLES = (
    np.zeros((3, 2)), np.float32(1), np.arange(4), np.array([True, False]),
    np.array([b"text", b""], object), np.zeros((0, 2), np.complex64),
)  # fmt: skip


def write(entry: Any, first: Any, inputs: Sequence[Any], hidden: bool) -> None:
    """A write of nonsense is refused, which leaves the variable alone, or keeps its shape."""
    with tf.Graph().as_default(), tf.Session() as session, np.errstate(all="ignore"):
        v = tf.Variable(first)
        session.run(v.initializer)
        try:
            tensors = [placeholder(x, None if hidden else x.shape) for x in inputs]
            new = entry(v.handle, *tensors)
        except (ShapeError, DTypeError, GraphError, TypeError, ValueError) as error:
            refused(error)
            return
        try:
            session.run(new, dict(zip(tensors, inputs, strict=True)))
        except OpError as error:
            refused(error)
            if isinstance(error, (tf.errors.UnknownError, tf.errors.InternalError)):
                raise
            np.testing.assert_array_equal(session.run(v), first)
        else:
            value = np.asarray(session.run(v))
            assert value.shape == np.shape(first)
            assert v.dtype is tf.string or value.dtype == v.dtype.np


def fitting(rng: Any, entry: Any, first: Any) -> list[Any]:
    """Inputs that may fit: some indices, and rows of the variable's own dtype."""
    count = int(rng.integers(1, 4))
    indices = np.array([0, 7, -1][:count], np.int32)
    rows = np.resize(first, (count, *np.shape(first)[1:])) if rng.random() < 0.5 else first
    return [*[indices] * (len(entry.rules) - 2), np.asarray(rows)]


@pytest.mark.parametrize("name", WRITES)
def test_writes_of_nonsense_leave_variables_alone(name: str) -> None:
    entry = WRITES[name]
    rng = np.random.default_rng([2, zlib.crc32(name.encode())])
    for i in range(24):
        first = VARIABLES[int(rng.integers(len(VARIABLES)))]
        inputs = fitting(rng, entry, first) if i % 3 else [array(rng) for _ in entry.rules[1:]]
        # `Variable.assign` checks shapes that only the run tells
        hidden = bool(i % 2) and not name.startswith("Assign")
        try:
            write(entry, first, inputs, hidden)
        except BaseException as error:
            error.add_note(f"{name}({first!r}, {inputs!r}), hidden={hidden}")
            raise


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ENTRIES)
def test_only_typed_errors_come_out_of_much_more(name: str) -> None:
    drive(name, 100, seed=1)


def dynamic(value: Any, dtype: Any = tf.int32) -> Any:
    """A value that no shape rule can look up."""
    array = np.asarray(value, dtype.as_numpy_dtype)
    return tf.placeholder_with_default(array, array.shape)


def unknown(value: Any) -> Any:
    """A value of unknown shape."""
    return tf.placeholder_with_default(np.float32(value), None)


def variable(initializer: Any) -> Any:
    return tf.get_variable("v", [10**9, 10**9], initializer=initializer).initializer


TOO_LARGE = {
    "range": lambda: tf.range(10**18),
    "range at run time": lambda: tf.range(dynamic(10**18, tf.int64)),
    "zeros": lambda: tf.zeros([10**9, 10**9]),
    "zeros at run time": lambda: tf.zeros(dynamic([10**9, 10**9])),
    "fill": lambda: tf.fill(dynamic([2**31 - 1] * 3), 1.0),
    "tile": lambda: tf.tile(tf.ones([2, 2]), dynamic([10**9, 10**9])),
    "broadcast_to": lambda: tf.broadcast_to(1.0, dynamic([10**9, 10**9])) + 1.0,
    "outer product": lambda: tf.ones([10**6, 1]) * tf.ones([1, 10**6]),
    "scatter_nd": lambda: tf.scatter_nd([[0]], [1.0], dynamic([2**40], tf.int64)),
    "random_uniform": lambda: tf.random_uniform(dynamic([10**9, 10**9])),
    "random_normal": lambda: tf.random_normal(dynamic([10**6, 10**6])),
    "matrix_diag": lambda: tf.matrix_diag(tf.ones([10**6])),
    "pad": lambda: tf.pad(tf.ones([2]), dynamic([[2**31 - 1, 2**31 - 1]])),
    "eye": lambda: tf.eye(10**9),
    "eye at run time": lambda: tf.eye(dynamic(10**9)),
    "eye of a variable": lambda: variable(tf.initializers.identity()),
    "one_hot": lambda: tf.one_hot(tf.range(10**9), 10**9),
    "constant": lambda: tf.constant(1.0, shape=[10**9, 10**9]),
    "constant of a variable": lambda: variable(tf.constant_initializer(3.0)),
    "random variable": lambda: variable(tf.random_normal_initializer()),
    "fetched broadcast": lambda: tf.broadcast_to(1.0, dynamic([10**6, 10**6])),
    "sequence_mask": lambda: tf.sequence_mask(np.array([1]), 10**15),
    "linspace": lambda: tf.linspace(0.0, 1.0, np.int64(10**15)),
    "sparse_to_dense": lambda: tf.sparse_to_dense([0], [10**15], [1.0]),
    "repeat": lambda: tf.repeat([1.0], 10**15),
    "transposed convolution": lambda: tf.nn.conv2d_transpose(
        tf.zeros([1, 1, 1, 1]), tf.zeros([1, 1, 1, 1]), [1, 10**9, 10**9, 1], 10**9
    ),
    "resize": lambda: tf.image.resize_images(tf.zeros([1, 2, 2, 1]), [10**9, 10**9]),
}
REFUSED = {
    "range of NaN": lambda: tf.range(0.0, dynamic(float("nan"), tf.float32), 1.0),
    "range without end": lambda: tf.range(0.0, dynamic(float("inf"), tf.float32), 1.0),
    "range with step 0": lambda: tf.range(0, 10, dynamic(0)),
    "negative size": lambda: tf.fill(dynamic([-1, 2]), 1.0),
    "negative scatter": lambda: tf.scatter_nd([[0]], [1.0], dynamic([-4])),
    "negative repeats": lambda: tf.tile(tf.ones([2, 2]), dynamic([-1, 1])),
    "negative depth": lambda: tf.one_hot([1], dynamic(-1)),
    "two unknown sizes": lambda: tf.reshape(tf.ones([4]), dynamic([-1, -1])),
    "size -2": lambda: tf.reshape(tf.ones([4]), dynamic([-2, -2])),
    "index too large": lambda: tf.gather(tf.ones([3]), dynamic([3])),
    "negative index": lambda: tf.gather(tf.ones([3]), dynamic([-1])),
    "label out of range": lambda: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=dynamic([5]), logits=tf.ones([1, 3])
    ),
    "blocks of 0": lambda: tf.space_to_batch_nd(
        tf.ones([1, 4, 4, 1]), dynamic([0, 2]), [[0, 0], [0, 0]]
    ),
    "division by 0": lambda: dynamic(1) // dynamic(0),
    "negative power": lambda: tf.pow(dynamic(2), dynamic(-1)),
    "bias of one number": lambda: tf.nn.bias_add(unknown([[1, 2]]), unknown([1])),
    "bias of more axes": lambda: tf.nn.bias_add(unknown([[1, 2]]), unknown([[1, 2]])),
    "gradient of a bias": lambda: ENTRIES["BiasAddGrad"](unknown([1]), data_format="NCHW"),
    "no permutation": lambda: tf.invert_permutation(dynamic([0, 0])),
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_what_cannot_fit_fails_at_once(what: str) -> None:
    start = time.process_time()
    with tf.Graph().as_default(), tf.Session() as session:
        kinds = (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError)
        with pytest.raises((*kinds, ShapeError)) as found:
            session.run(TOO_LARGE[what]())
    refused(found.value)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("value", [10**15, [10**15], 1.5, "x"])
def test_a_value_that_does_not_convert_tells_the_line(value: Any) -> None:
    with tf.Graph().as_default(), pytest.raises(DTypeError) as found:
        tf.convert_to_tensor(value, tf.int32)
    refused(found.value)


@pytest.mark.parametrize("indices", [[1.5], [True], [1j]])
def test_indices_of_rows_are_integers(indices: Any) -> None:
    with tf.Graph().as_default(), pytest.raises(DTypeError, match="integer dtype") as found:
        tf.dynamic_stitch([indices], [[1.0]])
    refused(found.value)


def test_rows_of_two_dtypes_are_refused_though_their_shapes_are_not_known() -> None:
    with tf.Graph().as_default(), pytest.raises(DTypeError, match="one dtype, not float32, int32"):
        tf.dynamic_stitch([[0], [1]], [unknown([1]), tf.placeholder(tf.int32)])


def test_a_dtype_that_is_none_is_refused() -> None:
    with tf.Graph().as_default(), pytest.raises(DTypeError, match="'i,j' is no dtype") as found:
        ENTRIES["RandomPoissonV2"](tf.placeholder(tf.int32), 1.0, dtype="i,j", stream=0)
    refused(found.value)


def test_so_many_parts_are_refused() -> None:
    with tf.Graph().as_default(), pytest.raises(GraphError, match="outputs") as found:
        ENTRIES["SplitV"](unknown([1]), tf.placeholder(tf.int32), num=2**40)
    refused(found.value)


@pytest.mark.parametrize("rows", [0, -1, 1.5, 2**40, None])
def test_rows_that_are_none_are_refused(rows: Any) -> None:
    with tf.Graph().as_default(), pytest.raises((DTypeError, GraphError), match="rows") as found:
        ENTRIES["ShuffledRow"](tf.constant([1, 2]), rows=rows)
    refused(found.value)


@pytest.mark.parametrize("what", REFUSED)
def test_values_are_checked_when_run(what: str) -> None:
    error = tf.errors.InvalidArgumentError
    with tf.Graph().as_default(), tf.Session() as session, pytest.raises(error) as found:
        session.run(REFUSED[what]())
    refused(found.value)


def test_one_part_is_no_tuple() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [1, 3])
        whole, row = session.run([tf.split(x, 1)[0], tf.unstack(x)[0]], {x: [[1, 2, 3]]})
    np.testing.assert_array_equal(whole, [[1, 2, 3]])
    np.testing.assert_array_equal(row, [1, 2, 3])


def test_notices_an_untyped_error() -> None:
    def infer(*_: Any, **__: Any) -> Any:
        raise RuntimeError("not what a user should see")

    whole = ENTRIES["Add"].infer
    object.__setattr__(ENTRIES["Add"], "infer", infer)
    try:
        with pytest.raises(RuntimeError):
            drive("Add", 12, seed=0)
    finally:
        object.__setattr__(ENTRIES["Add"], "infer", whole)
