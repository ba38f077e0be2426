"""The driver: passes one after the other, each validated on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from graphflow.rewrite.algebra import EXACT, FAST
from graphflow.rewrite.common import merge_common
from graphflow.rewrite.dependencies import clean
from graphflow.rewrite.folding import fold
from graphflow.rewrite.subgraph import Subgraph
from graphflow.rewrite.validate import Validation


class Pass(NamedTuple):
    """One rewriting step.

    Attributes:
      name: for reports.
      apply: from a subgraph to another, or the same one.
      exact: every bit of the results stays, the payload of NaN aside.
    """

    name: str
    apply: Callable[[Subgraph], Subgraph]
    exact: bool = True


PASSES: Final = (
    Pass("constant folding", fold),
    Pass("common subexpressions", merge_common),
    Pass("algebra", EXACT),
    Pass("common subexpressions", merge_common),  # what the rules have made equal
    Pass("dependency cleaning", clean),
)
FAST_MATH: Final = (
    Pass("fast math", FAST, exact=False),
    Pass("constant folding", fold),
    Pass("common subexpressions", merge_common),
)


def rewrite(view: Subgraph, passes: Iterable[Pass] = PASSES, *, validate: bool = False) -> Subgraph:
    """The subgraph, simplified: equal results and effects from less work.

    Fetches keep their positions, fed tensors stay what they are, names and sites survive.  Each
    pass drops what is dead after it.  Bodies of Cond and While are rewritten where they are
    compiled.

    Args:
      view: what to rewrite.
      passes: `PASSES`, or `PASSES + FAST_MATH` where results may change within rounding.
      validate: check each pass on probe inputs; one that changes results is undone, with a
        `RewriteWarning`.
    """
    check = Validation()
    for step in passes:
        new = step.apply(view)
        if new is not view and validate:
            new = check(step.name, view, new, exact=step.exact)
        view = new
    return view
