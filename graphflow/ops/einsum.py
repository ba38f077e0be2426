"""Sums of products in Einstein's notation, and tensordot, which is one of them."""

from __future__ import annotations

import string
from typing import Any

from graphflow.base.errors import GraphError, InvalidArgumentError, ShapeError
from graphflow.base.shapes import format_dims
from graphflow.build import OPS, as_tensor, op
from graphflow.build.convert import is_symbolic
from graphflow.build.opdef import Array, Num, Specs
from graphflow.build.tensor import Tensor
from graphflow.ops.cases import Case, Sampler
from graphflow.ops.complexes import conjugate
from graphflow.ops.diagonal import matrix_diag_part
from graphflow.ops.known import static_ints
from graphflow.ops.public import composite
from graphflow.ops.reduce import reduce_sum
from graphflow.ops.sums import _sum_to, shape_of


def _parts(equation: str) -> tuple[list[str], str]:
    inputs, output = equation.split("->")
    return inputs.split(","), output


def _sizes(inputs: Any, labels: list[str]) -> dict[str, int | None]:
    """The size of each label.

    Raises:
      ShapeError: a label has two sizes, neither of which is 1.
    """
    sizes: dict[str, int | None] = {}
    for x, names in zip(inputs, labels, strict=True):
        for n, label in zip(x.dims or (None,) * len(names), names, strict=True):
            known = sizes.get(label)
            if known is None or known == 1:
                sizes[label] = n if n is not None or known is None else None
            elif n not in (None, 1, known):
                raise ShapeError(f"index {label!r} has sizes {known} and {n}")
    return sizes


def _spec(*inputs: Tensor, equation: str) -> Specs:
    labels, output = _parts(equation)
    if len(labels) != len(inputs):
        raise GraphError(f"{equation!r} is for {len(labels)} inputs; {len(inputs)} were given")
    for x, names in zip(inputs, labels, strict=True):
        if x.dims is not None and len(x.dims) != len(names):
            raise ShapeError(f"{names!r} does not name the axes of shape {format_dims(x.dims)}")
    sizes = _sizes(inputs, labels)
    return [(tuple([sizes[label] for label in output]), inputs[0].dtype)]


def _grad(g: Any, y: Any, *inputs: Any, equation: str) -> Any:
    """Each label of an input is in the output or in another input: see `einsum`."""
    labels, output = _parts(equation)
    grads = []
    for i, x in enumerate(inputs):
        others = [j for j in range(len(inputs)) if j != i]
        terms = ",".join([output, *[labels[j] for j in others]])
        part = _einsum(g, *[conjugate(inputs[j]) for j in others], equation=f"{terms}->{labels[i]}")
        grads.append(part if _same_sizes(x, inputs, labels, i) else _sum_to(part, shape_of(x)))
    return tuple(grads)


def _same_sizes(x: Tensor, inputs: Any, labels: list[str], at: int) -> bool:
    """Was no axis of x of size 1 stretched?"""
    if x.dims is None:
        return False
    sizes = _sizes(inputs, labels)
    return all(n is not None and sizes[v] == n for n, v in zip(x.dims, labels[at], strict=True))


def _cost(*inputs: Any, equation: str) -> float:
    """Two for each element of the space that all labels span; unknown sizes count as 1."""
    total = 2.0
    for n in _sizes(inputs, _parts(equation)[0]).values():
        total *= n or 1
    return total


def _cases(s: Sampler) -> list[Case]:
    table = (
        ("ij,jk->ik", (2, 3), (3, 2)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 1)),
        ("i,j->ij", (2,), (3,)),
        ("ij,ij->", (2, 3), (2, 3)),
        ("ij->ji", (2, 3)),
        ("ab,bc,cd->da", (2, 2), (2, 3), (3, 2)),
        ("bi,bi->bi", (1, 3), (2, 3)),
        ("ij,jk->ik", (0, 3), (3, 2)),
    )
    return [Case(tuple(s.normal(*d) for d in dims), {"equation": e}) for e, *dims in table]


@op("Einsum", infer=_spec, grad=_grad, cost=_cost, cases=_cases)
def _einsum(xp: Any, *inputs: Num, equation: str) -> Array:
    """A sum of products, with an equation whose labels are letters, as `einsum` makes it."""
    try:
        result = xp.einsum(equation, *inputs, optimize=len(inputs) > 1)
        result = result.astype(inputs[0].dtype, copy=False)  # of bfloat16, NumPy's is float32
    except ValueError as error:
        shapes = ", ".join(str(x.shape) for x in inputs)
        raise InvalidArgumentError(None, None, f"{equation!r} of {shapes}: {error}") from None
    return xp.ascontiguousarray(result).reshape(result.shape) if len(inputs) == 1 else result


# ---- TensorFlow's functions


def einsum(equation: str, *inputs: Any, name: str | None = None, **kwargs: Any) -> Tensor:
    """A sum of products, as numpy.einsum: "ij,jk->ik" is the product of matrices.

    Args:
      equation: labels of the axes of each input, "->" and those of the output; without an
        output, the labels that occur once, in alphabetical order. "..." stands for further
        axes, which broadcast; a label given twice for one input takes a diagonal.
      inputs: tensors of known rank.
      kwargs: `optimize` is accepted and changes nothing.

    Raises:
      GraphError: the equation makes no sense.
      ShapeError: it does not fit the shapes.
    """
    unknown = set(kwargs) - {"optimize"}
    if unknown:
        raise TypeError(f"einsum takes no argument {sorted(unknown)[0]!r}")
    if not isinstance(equation, str):
        raise TypeError(f"the equation of einsum is a string, not {equation!r}")
    if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
        inputs = tuple(inputs[0])
    first = next((x for x in inputs if is_symbolic(x)), None)
    dtype = None if first is None else first.dtype
    tensors = [as_tensor(x, None if hasattr(x, "dtype") else dtype) for x in inputs]
    labels, output = _explicit(equation.replace(" ", ""), tensors)
    _sizes(tensors, labels)
    with composite(name, "einsum", *tensors) as scope:
        for i, names in enumerate(labels):
            tensors[i], names = _diagonals(tensors[i], names)
            others = set(output).union(*labels[:i], *labels[i + 1 :])
            alone = [k for k, label in enumerate(names) if label not in others]
            if alone:
                tensors[i] = reduce_sum(tensors[i], alone)
            labels[i] = "".join(label for label in names if label in others)
        return _einsum(*tensors, equation=f"{','.join(labels)}->{output}", name=scope)


def _explicit(equation: str, inputs: list[Tensor]) -> tuple[list[str], str]:
    """Labels of the inputs and of the output, all letters."""
    left, arrow, output = equation.partition("->")
    labels = left.split(",")
    if len(labels) != len(inputs):
        raise GraphError(f"{equation!r} is for {len(labels)} inputs; {len(inputs)} were given")
    free = [c for c in string.ascii_letters if c not in equation]
    ranks = [0]
    for i, (x, names) in enumerate(zip(inputs, labels, strict=True)):
        if x.dims is None:
            raise ShapeError(f"the rank of input {i} of einsum must be known ({x!r})")
        rest = len(x.dims) - len(names.replace("...", ""))
        if rest < 0 or (rest > 0 and "..." not in names):
            raise ShapeError(f"{names!r} does not name the axes of shape {format_dims(x.dims)}")
        ranks.append(rest if "..." in names else 0)
    dots = "".join(free[: max(ranks)])
    for i, rank in enumerate(ranks[1:]):
        labels[i] = labels[i].replace("...", dots[len(dots) - rank :])
    letters = "".join(labels)
    if not arrow:
        output = dots + "".join(
            sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1)
        )
    elif dots and "..." not in output:
        raise GraphError(f"the output of {equation!r} must have the '...' of its inputs")
    output = output.replace("...", dots)
    wrong = [c for c in letters + output if c not in string.ascii_letters]
    if wrong or len(set(output)) != len(output) or set(output) - set(letters):
        raise GraphError(
            f"{equation!r} is no equation of einsum: labels are letters, those of the output "
            "differ and occur among the inputs"
        )
    return labels, output


def _diagonals(x: Tensor, names: str) -> tuple[Tensor, str]:
    """Repeated labels of one input replaced by their diagonal."""
    while len(set(names)) != len(names):
        twice = next(c for c in names if names.count(c) > 1)
        first = names.index(twice)
        second = names.index(twice, first + 1)
        others = [k for k in range(len(names)) if k not in (first, second)]
        x = matrix_diag_part(OPS["Transpose"](x, perm=(*others, first, second)))
        names = "".join(names[k] for k in others) + twice
    return x, names


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """A sum of products over given axes of both tensors.

    Args:
      a, b: tensors of one dtype and known rank.
      axes: n: the last n axes of a and the first n of b; or a pair of axes or lists of axes.

    Raises:
      ShapeError: the sizes of two axes differ.
      GraphError: there are not as many axes of a as of b, or one is out of range.
    """
    from graphflow.ops.operators import pair
    from graphflow.ops.rules import axis_in

    a, b = pair(a, b)
    if a.dims is None or b.dims is None:
        raise ShapeError("the ranks of both inputs of tensordot must be known")
    axes = static_ints(axes, "axes")
    if isinstance(axes, int):
        if not 0 <= axes <= min(len(a.dims), len(b.dims)):
            raise GraphError(f"axes={axes} is out of range for ranks {len(a.dims)}, {len(b.dims)}")
        left: Any = tuple(range(len(a.dims) - axes, len(a.dims)))
        right: Any = tuple(range(axes))
    else:
        left, right = [(x,) if isinstance(x, int) else x for x in axes]
    if len(left) != len(right):
        raise GraphError(f"axes {left} of a and {right} of b must be as many")
    names_a = string.ascii_letters[: len(a.dims)]
    names_b = list(string.ascii_letters[len(a.dims) : len(a.dims) + len(b.dims)])
    for i, j in zip(left, right, strict=True):
        i, j = axis_in(i, len(a.dims)), axis_in(j, len(b.dims))
        if None not in (a.dims[i], b.dims[j]) and a.dims[i] != b.dims[j]:
            raise ShapeError(
                f"axis {i} of a and {j} of b differ: {format_dims(a.dims)}, {format_dims(b.dims)}"
            )
        names_b[j] = names_a[i]
    shared = set(names_a) & set(names_b)
    output = "".join(c for c in [*names_a, *names_b] if c not in shared)
    return einsum(f"{names_a},{''.join(names_b)}->{output}", a, b, name=name or "Tensordot")
