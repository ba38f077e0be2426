"""Names that TensorFlow has renamed, by the path under which programs know them."""

from __future__ import annotations

from typing import Any, Final

# old path -> path in graphflow
RENAMED: Final[dict[str, str]] = {
    "initialize_all_variables": "global_variables_initializer",
    "initialize_local_variables": "local_variables_initializer",
    "initialize_variables": "variables_initializer",
    "all_variables": "global_variables",
    "mul": "multiply",
    "sub": "subtract",
    "neg": "negative",
    "pack": "stack",
    "unpack": "unstack",
    "select": "where",
    "inv": "reciprocal",
    "arg_max": "argmax",
    "arg_min": "argmin",
    "lin_space": "linspace",
    "get_logger": "logging.get_logger",
    "OpError": "errors.OpError",
    "initialize_all_tables": "tables_initializer",
}


def nothing(*_: Any, **__: Any) -> None:
    """Accepted, and without effect: graphflow always behaves like TensorFlow 1."""


NO_EFFECT: Final[frozenset[str]] = frozenset(
    {
        "disable_v2_behavior",
        "disable_eager_execution",
        "disable_v2_tensorshape",
        "disable_resource_variables",
        "enable_resource_variables",
        "disable_control_flow_v2",
        "enable_control_flow_v2",
        "disable_tensor_equality",
    }
)


def never(*_: Any, **__: Any) -> bool:
    """False: graphs are built and then run, never executed while they are built."""
    return False


# what graphflow lacks of the top level -> what does the same
INSTEAD: Final[dict[str, str]] = {
    "data": "graphflow.datasets.batches and feed_dict, or queues",
    "enable_eager_execution": "tf.Session: graphs are built and then run",
    "enable_v2_behavior": "tf.Session: graphs are built and then run",
    "estimator": "tf.train.MonitoredTrainingSession",
    "examples": "graphflow.datasets.mnist and graphflow.datasets.batches",
    "function": "tf.Session: graphs are built and then run",
    "keras": "tf.layers, tf.losses and tf.train",
    "saved_model": "tf.train.Saver",
    "summary": "tf.train.LoggingTensorHook",
}


def find(name: str) -> Any:
    """What a legacy name of the top level stands for.

    Raises:
      AttributeError: TensorFlow 1 has no such name, or graphflow does not have it yet.
    """
    import graphflow
    from graphflow.compat import namespaces

    if (namespace := namespaces.find(name)) is not None:
        return namespace
    if name in NO_EFFECT:
        return nothing
    if name in ("executing_eagerly", "executing_eagerly_outside_functions"):
        return never
    if name in RENAMED:
        found: Any = graphflow
        for part in RENAMED[name].split("."):
            found = getattr(found, part)
        return found
    hint = f": use {INSTEAD[name]}" if name in INSTEAD else ""
    raise AttributeError(f"module 'graphflow' has no attribute {name!r}{hint}")
