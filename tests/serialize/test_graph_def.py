"""Graphs go out as TensorFlow's GraphDef and come in again, its own ones, too; see `record.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphflow as tf
from graphflow.base.errors import GraphError, UnimplementedError
from graphflow.serialize.signatures import signature
from tests.serialize.programs import PROGRAMS
from tests.serialize.record import FILE, built, values


def same(found: Any, wanted: Any, exact: bool, what: str) -> None:
    if wanted.dtype.kind in "OS":
        assert np.asarray(found).astype("S").tolist() == wanted.astype("S").tolist(), what
    elif exact:
        assert found.dtype == wanted.dtype, what
        np.testing.assert_array_equal(found, wanted, err_msg=what)
    else:
        assert found.dtype == wanted.dtype, what
        np.testing.assert_allclose(found, wanted, 2e-5, 2e-5, err_msg=what)


def read(graph_def: Any, names: list[str]) -> list[Any]:
    """Values of a GraphDef that went through bytes."""
    with tf.Graph().as_default():
        tf.import_graph_def(tf.GraphDef.FromString(graph_def.SerializeToString()), name="")
        return values(tf, names)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_written_reads_as_the_same(name: str) -> None:
    graph_def, names, wanted = built(tf, name)
    found = read(graph_def, names)
    for what, a, b in zip(names, found, wanted, strict=True):
        same(a, b, True, what)
    assert all(signature(node.op) for node in graph_def.node), "ops that TensorFlow does not have"


@pytest.mark.parametrize("name", PROGRAMS)
def test_reads_what_tensorflow_wrote(name: str) -> None:
    data = np.load(FILE)
    names = data[f"{name}/names"].tolist()
    found = read(tf.GraphDef.FromString(data[f"{name}/graph"].tobytes()), names)
    for i, what in enumerate(names):
        same(found[i], data[f"{name}/{i}"], False, what)


@pytest.mark.peers
@pytest.mark.parametrize("name", PROGRAMS)
def test_tensorflow_reads_what_is_written(name: str) -> None:
    tensorflow = pytest.importorskip("tensorflow.compat.v1")
    graph_def, names, wanted = built(tf, name)
    theirs = tensorflow.GraphDef.FromString(graph_def.SerializeToString())
    with tensorflow.Graph().as_default():
        tensorflow.import_graph_def(theirs, name="")
        found = values(tensorflow, names)
    for what, a, b in zip(names, found, wanted, strict=True):
        same(a, np.asarray(b), False, what)


@pytest.fixture
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


def nodes(graph: Any, **options: Any) -> dict[str, Any]:
    return {node.name: node for node in graph.as_graph_def(**options).node}


def test_nodes_tell_names_inputs_devices_and_attributes(graph: Any) -> None:
    with tf.device("/job:worker/task:1/cpu:0"):
        x = tf.placeholder(tf.float32, [None, 3], name="x")
    with tf.name_scope("layer"), tf.control_dependencies([tf.no_op(name="first")]):
        y = tf.reduce_sum(x, axis=1, keepdims=True, name="total")
        with tf.colocate_with(x):
            tf.split(x, 3, axis=1, name="parts")[1] + y
    found = nodes(graph, add_shapes=True)
    assert found["x"].op == "Placeholder"
    assert found["x"].device == "/job:worker/task:1/device:CPU:0"
    assert [d.size for d in found["x"].attr["shape"].shape.dim] == [-1, 3]
    total = found["layer/total"]
    assert list(total.input) == ["x", "layer/total/reduction_indices", "^layer/first"]
    assert total.attr["keep_dims"].b
    assert total.attr["T"].type == 1
    assert found["layer/total/reduction_indices"].op == "Const"
    assert list(found["layer/add"].input) == ["layer/parts:1", "layer/total", "^layer/first"]
    assert found["layer/add"].attr["_class"].list.s == [b"loc:@x"]
    shapes = found["layer/parts"].attr["_output_shapes"].list.shape
    assert [[d.size for d in s.dim] for s in shapes] == [[-1, 1]] * 3


def test_only_what_was_added_since_a_version(graph: Any) -> None:
    tf.constant(1, name="old")
    version = graph.version
    tf.constant(2, name="new")
    assert list(nodes(graph, from_version=version)) == ["new"]


def test_ops_that_tensorflow_lacks_are_written_as_they_are(graph: Any) -> None:
    x = tf.placeholder(tf.float32, [4])
    loop = tf.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * x), [0, x])[1]
    found = nodes(graph)
    assert found[loop.op.name].op == "While"
    assert tf.GraphDef.FromString(graph.as_graph_def().SerializeToString()) == graph.as_graph_def()


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 2), np.int64), np.float16(1.5),
        np.array(True), np.array([1 + 2j]), np.array([b"\xff\x00", b""], object),
        np.array([2**63], np.uint64), np.array([-1], np.int8),
        np.array([1.5], tf.bfloat16.as_numpy_dtype),
    ],
)  # fmt: skip
def test_constants_come_back_bit_for_bit(graph: Any, value: Any) -> None:
    c = tf.constant(value, name="c")
    raw = graph.as_graph_def().SerializeToString()
    with tf.Graph().as_default() as other:
        tf.import_graph_def(tf.GraphDef.FromString(raw), name="")
        found = other.get_tensor_by_name("c:0").op.attrs["value"]
    assert found.dtype == c.op.attrs["value"].dtype
    assert found.tobytes() == c.op.attrs["value"].tobytes() or found.tolist() == value.tolist()


def test_short_lists_go_on_with_their_last_element(graph: Any) -> None:
    graph_def = tf.GraphDef()
    node = graph_def.node.add(name="c", op="Const")
    tensor = node.attr["value"].tensor
    node.attr["dtype"].type = tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=3)
    tensor.float_val.extend([1.0, 2.0])
    (c,) = tf.import_graph_def(graph_def, return_elements=["c:0"])
    assert c.name == "import/c:0"
    assert c.op.attrs["value"].tolist() == [1, 2, 2]


def test_imports_with_other_inputs_and_gives_elements(graph: Any) -> None:
    x = tf.placeholder(tf.float32, [2], name="x")
    tf.add(x * 2.0, 1.0, name="y")
    graph_def = graph.as_graph_def()
    with tf.Graph().as_default(), tf.Session() as session:
        given = tf.constant([3.0, 4.0])
        y, op = tf.import_graph_def(graph_def, {"x:0": given}, ["y:0", "y"], name="again")
        assert y.op is op
        assert op.name == "again/y"
        assert session.run(y).tolist() == [7, 9]


def broken(change: Any) -> Any:
    with tf.Graph().as_default() as g:
        tf.identity(tf.placeholder(tf.float32, name="x"), name="y")
        graph_def = g.as_graph_def()
    change(graph_def)
    return graph_def


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda g: g.node[1].input.append("^gone"), GraphError, "not in the graph"),
        (lambda g: g.node[0].input.append("^y"), GraphError, "wait for each other"),
        (lambda g: setattr(g.node[1], "op", "NoSuchOp"), UnimplementedError, "NoSuchOp"),
        (lambda g: setattr(g.node[1], "name", "x"), GraphError, "two nodes"),
        (lambda g: g.node[1].input.__setitem__(0, "x:3"), GraphError, "has 1 outputs"),
        (lambda g: g.node[0].attr["dtype"].__setattr__("type", 11), GraphError, "dtype number 11"),
    ],
)
def test_refuses_graphs_that_are_not_consistent(
    graph: Any, change: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        tf.import_graph_def(broken(change))


def test_refuses_names_that_are_taken_or_unknown(graph: Any) -> None:
    graph_def = broken(lambda g: None)
    tf.import_graph_def(graph_def, name="")
    with pytest.raises(GraphError, match="already"):
        tf.import_graph_def(graph_def, name="")
    with pytest.raises(GraphError, match="input_map"):
        tf.import_graph_def(graph_def, {"z:0": tf.constant(1.0)})
    with pytest.raises(GraphError, match="return_elements"):
        tf.import_graph_def(graph_def, return_elements=["z"])
    with pytest.raises(TypeError):
        tf.import_graph_def(b"bytes")


@pytest.mark.parametrize("as_text", [True, False])
def test_writes_files_that_protobuf_reads(graph: Any, tmp_path: Path, as_text: bool) -> None:
    tf.constant([1.0, 2.0], name="c")
    path = tf.train.write_graph(graph, str(tmp_path / "new"), "graph.pb", as_text)
    assert path == str(tmp_path / "new" / "graph.pb")
    if as_text:
        from google.protobuf import text_format

        read = text_format.Parse(Path(path).read_text(), tf.GraphDef())
        assert "dtype: DT_FLOAT" in Path(path).read_text()
    else:
        read = tf.GraphDef.FromString(Path(path).read_bytes())
    assert read == graph.as_graph_def()
    assert tf.io.write_graph(read, str(tmp_path), "again.pb") == str(tmp_path / "again.pb")


def test_freezes_variables(graph: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    y = tf.identity(tf.layers.dense(x, 3, name="dense"), name="y")
    tf.train.AdamOptimizer().minimize(tf.reduce_sum(y))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        wanted = session.run(y, {x: np.ones((1, 2))})
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["y"], variable_names_blacklist=["dense/bias"]
        )
        assert {n.name for n in frozen.node if n.op == "VarHandleOp"} == {"dense/bias"}
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["y"])
    assert not {n.op for n in frozen.node} & {"VarHandleOp", "ReadVariableOp", "AssignVariableOp"}
    assert not any("Adam" in n.name for n in frozen.node)
    smaller = tf.graph_util.remove_training_nodes(frozen, ["y"])
    assert len(smaller.node) < len(frozen.node)
    for graph_def in (frozen, smaller):
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(graph_def, name="")
            np.testing.assert_array_equal(session.run("y:0", {"x:0": np.ones((1, 2))}), wanted)
    with pytest.raises(GraphError, match="not in the graph"):
        tf.graph_util.extract_sub_graph(frozen, ["z"])


def test_tensors_are_messages_of_their_own() -> None:
    proto = tf.make_tensor_proto([1, 2], tf.float32, [2, 2])
    assert proto.SerializeToString() == tf.make_tensor_proto([[1, 2], [2, 2.0]]).SerializeToString()
    np.testing.assert_array_equal(tf.make_ndarray(proto), np.array([[1, 2], [2, 2]], np.float32))
    with pytest.raises(TypeError):
        tf.make_tensor_proto(1.5, tf.int32)
