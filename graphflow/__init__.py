"""graphflow: distributed dataflow graphs in TensorFlow 1's programming model.

    import graphflow as tf

Nothing that is slow to load is imported here: ray, cupy, llvmlite and scipy come when needed.
"""

from typing import Any as _Any

from graphflow import layers, nn, train
from graphflow.base import dtypes, errors
from graphflow.base.devices import DeviceSpec
from graphflow.base.dtypes import (
    DType,
    as_dtype,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    resource,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
    variant,
)
from graphflow.base.dtypes import bool_ as bool
from graphflow.base.dtypes import float16 as half
from graphflow.base.dtypes import float64 as double
from graphflow.base.shapes import Dimension, TensorShape
from graphflow.build import Graph, Operation, Tensor
from graphflow.build.keys import GraphKeys
from graphflow.differentiate import (
    AggregationMethod,
    NoGradient,
    NotDifferentiable,
    RegisterGradient,
    UnconnectedGradients,
    gradients,
    hessians,
)
from graphflow.nn import losses, metrics
from graphflow.ops import *  # noqa: F403
from graphflow.ops import image, initializers
from graphflow.session import *  # noqa: F403

__version__ = "0.1.0"

newaxis = None


_SERIALIZED = (
    "AttrValue",
    "GraphDef",
    "NameAttrList",
    "NodeDef",
    "import_graph_def",
    "make_ndarray",
    "make_tensor_proto",
)


def _export(*args: _Any) -> _Any:
    from graphflow.serialize import export

    return export(*args)


Graph.exporter = staticmethod(_export)


def __getattr__(name: str) -> _Any:
    """What is loaded when it is first asked for, and TensorFlow's older names."""
    if name in _SERIALIZED:
        from graphflow import serialize

        return getattr(serialize, name)
    if name == "Cluster":
        from graphflow.distribute import Cluster

        return Cluster
    if name == "bfloat16":
        return dtypes.bfloat16
    if name in ("compat", "datasets", "distribute"):
        import importlib

        return importlib.import_module(f"graphflow.{name}")
    from graphflow.compat import legacy

    return legacy.find(name)
