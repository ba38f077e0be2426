"""Wrong passes are caught, undone, and reported."""

import pytest

import graphflow.ops  # noqa: F401  (enters the ops)
from graphflow.base import dtypes
from graphflow.build import OPS
from graphflow.build.graph import Graph
from graphflow.ops import state
from graphflow.ops.sources import constant, placeholder
from graphflow.rewrite import Pass, Subgraph, prune, rewrite
from graphflow.rewrite.patterns import Rules, call, wildcard
from graphflow.rewrite.validate import RewriteWarning

x, y = wildcard("x"), wildcard("y")

WRONG = {
    "loses the sign of zero": ((x + 0.0, lambda x: x), lambda x: x + 0.0),
    "zero times infinity": ((x * 0.0, lambda x: call("ZerosLike", x)), lambda x: x * 0.0),
    "nothing is less than NaN": (
        (call("LogicalNot", call("Less", x, y)), lambda x, y: call("GreaterEqual", x, y)),
        lambda x: OPS["LogicalNot"](OPS["Less"](x, x * 2.0)),
    ),
    "infinity minus itself": ((x - x, lambda x: call("ZerosLike", x)), lambda x: x - x),
    "overflow on the way": (((x * 2) / 2, lambda x: x), lambda x: (x * 2.0) / 2.0),
    "rounding": ((x / 3, lambda x: x * (1 / 3)), lambda x: x / 3.0),
    "plainly wrong": ((call("Tanh", x), lambda x: x), OPS["Tanh"]),
    "ties": (
        (call("LessEqual", x, y), lambda x, y: call("Less", x, y)),
        lambda x: OPS["LessEqual"](x, OPS["Maximum"](x, 0.0)),
    ),
}


@pytest.fixture
def graph():
    graph = Graph()
    with graph.as_default():
        yield graph


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_undone(graph, name):
    rule, build = WRONG[name]
    z = placeholder(dtypes.float32, (None, 4))
    result = build(z)
    view = prune(graph, [result], feeds=[z])
    wrong = Pass("wrong", Rules(rule))
    assert rewrite(view, [wrong]) is not view  # it does apply
    with pytest.warns(RewriteWarning, match=r"'wrong' was undone: .*test_validate.*instead of"):
        assert rewrite(view, [wrong], validate=True) is view


def test_fast_math_may_round_but_not_be_wrong(graph):
    z = placeholder(dtypes.float32, (4,))
    view = prune(graph, [z / 3.0], feeds=[z])
    rounds = Pass("rounds", Rules((x / 3, lambda x: x * (1 / 3))), exact=False)
    assert rewrite(view, [rounds], validate=True) is not view
    wrong = Pass("wrong", Rules((x / 3, lambda x: x * 0.3)), exact=False)
    with pytest.warns(RewriteWarning, match="wrong"):
        assert rewrite(view, [wrong], validate=True) is view


def test_a_lost_effect_is_caught(graph):
    v = state.var_handle(shared_name="v", dims=(), dtype=dtypes.float32)
    write = state.assign_variable(v, constant(1.0), name="write")
    view = prune(graph, [], [write.op])

    def lose(view: Subgraph) -> Subgraph:
        return Subgraph((), view.feeds, view.fetches, ())

    with pytest.warns(RewriteWarning, match=r"AssignVariable 'write' .* is gone"):
        assert rewrite(view, [Pass("lose", lose)], validate=True) is view


def test_what_a_write_receives_is_compared(graph):
    v = state.var_handle(shared_name="v", dims=(3,), dtype=dtypes.float32)
    write = state.assign_variable(v, OPS["Tanh"](state.read_variable(v)))
    view = prune(graph, [], [write.op])
    wrong = Pass("wrong", Rules((call("Tanh", x), lambda x: x)))
    with pytest.warns(RewriteWarning, match="Tanh"):
        assert rewrite(view, [wrong], validate=True) is view


def test_rules_of_another_shape_or_dtype_are_refused(graph):
    z = placeholder(dtypes.float32, (3, 1))
    view = prune(graph, [z + constant(0.0, shape=(1, 3)), OPS["IsNan"](z)], feeds=[z])
    rules = Rules((x + 0.0, lambda x: x), (call("IsNan", x), lambda x: x))
    assert rewrite(view, [Pass("refused", rules)]) is view


def test_rules_that_undo_each_other_come_to_an_end(graph):
    z = placeholder(dtypes.float32, (3,))
    view = prune(graph, [z - (-(z * 2.0))], feeds=[z])
    loop = Rules((x - (-y), lambda x, y: x + y), (x + y, lambda x, y: x - (-y)))
    new = rewrite(view, [Pass("loop", loop)], validate=True)
    assert new.fetches[0].op.type in ("Add", "Sub")


def test_probes_compute_what_a_program_computes(graph):
    """The check sees through matrix products and reductions, so a wrong rule above them shows."""
    z = placeholder(dtypes.float32, (None, 4))
    w = state.read_variable(state.var_handle(shared_name="w", dims=(4, 2), dtype=dtypes.float32))
    result = OPS["Tanh"](OPS["MatMul"](z, w))
    view = prune(graph, [result], feeds=[z])
    wrong = Pass("wrong", Rules((call("Tanh", x), lambda x: x)))
    with pytest.warns(RewriteWarning, match="Tanh"):
        rewrite(view, [wrong], validate=True)


def test_lists_are_compared_entry_by_entry(graph):
    def fills(value):
        return OPS["ListSet"](OPS["ListReserve"](2), 1, value)

    z = placeholder(dtypes.float32, (2,))
    view = prune(graph, [OPS["ListLength"](fills(z)), fills(z)], feeds=[z])
    other = prune(graph, [OPS["ListLength"](fills(z)), fills(-z)], feeds=[z])
    same = Pass("same", lambda _: prune(graph, view.fetches, feeds=[z]))
    assert rewrite(view, [same], validate=True) is not view
    wrong = Pass("wrong", lambda _: other)
    with pytest.warns(RewriteWarning, match="wrong"):
        assert rewrite(view, [wrong], validate=True) is view


def test_reads_agree_while_nothing_writes(graph):
    handle = state.var_handle(shared_name="v", dims=(3,), dtype=dtypes.float32)
    before = state.read_variable(handle)
    with graph.control_dependencies([OPS["NoOp"]()]):
        also = state.read_variable(handle)
    view = prune(graph, [also], feeds=[])
    plain = prune(graph, [before], feeds=[])
    assert rewrite(view, [Pass("same", lambda _: plain)], validate=True) is plain
    with graph.control_dependencies([state.assign_variable(handle, [1.0, 2.0, 3.0])]):
        after = state.read_variable(handle)
    late = prune(graph, [before, after], feeds=[])
    early = Pass("early", lambda view: prune(graph, [before, before], [after.op], feeds=[]))
    with pytest.warns(RewriteWarning, match="early"):
        assert rewrite(late, [early], validate=True) is late
