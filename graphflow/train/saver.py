"""Saver: variables to checkpoints and back."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from graphflow import checkpoint
from graphflow.base.errors import GraphError, InvalidArgumentError, NotFoundError
from graphflow.build import Operation, Tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.checkpoint import CheckpointState, Reader
from graphflow.ops.sources import placeholder
from graphflow.ops.variables import Variable


class Saver:
    """Saves variables of a session, and restores them.

    A save is whole or it has not happened: a crash at any moment, or a full disk, leaves the
    checkpoints before it as they were.
    """

    def __init__(
        self,
        var_list: Any = None,
        reshape: bool = False,
        sharded: bool = False,
        max_to_keep: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000.0,
        name: str | None = None,
        restore_sequentially: bool = False,
        saver_def: Any = None,
        builder: Any = None,
        defer_build: bool = False,
        allow_empty: bool = False,
        write_version: Any = None,
        pad_step_number: bool = False,
        save_relative_paths: bool = False,
        filename: str | None = None,
    ):
        """Args:
        var_list: a list of variables, or a mapping from names in the checkpoint to variables;
          None: all that can be saved when it is first used.
        reshape: values of another shape but the same size are accepted.
        max_to_keep: how many checkpoints stay; None or 0: all.
        keep_checkpoint_every_n_hours: beside these, one for each so many hours stays.
        allow_empty: a graph without variables is no error.
        pad_step_number: write the step with 8 digits.
        others: accepted for TensorFlow's sake.

        Raises:
          ValueError: there is nothing to save, or two variables have one name.
          TypeError: something in the list is no variable.
        """
        self._given = var_list
        self._reshape = reshape
        self._max_to_keep = max_to_keep or 0
        self._hours = keep_checkpoint_every_n_hours
        self._pad = pad_step_number
        self._allow_empty = allow_empty
        self._last: list[tuple[str, float]] = []
        self._next_kept = time.time() + keep_checkpoint_every_n_hours * 3600
        self._built: dict[str, Variable] | None = None
        self._assignments: list[tuple[Tensor, Operation]] = []
        if not defer_build:
            self.build()

    def build(self) -> None:
        """Fix which variables are saved."""
        self._built = self._by_name()
        self._assignments = _assignments(self._built.values())

    def _by_name(self) -> dict[str, Variable]:
        given = self._given
        if given is None:
            graph = get_default_graph()
            given = dict.fromkeys(
                [
                    *graph.get_collection(GraphKeys.GLOBAL_VARIABLES),
                    *graph.get_collection(GraphKeys.SAVEABLE_OBJECTS),
                ]
            )
        if isinstance(given, Mapping) and self._given is not None:
            pairs = list(given.items())
        else:
            pairs = [(v.op.name, v) for v in map(_checked, given)]
        named: dict[str, Variable] = {}
        for name, variable in pairs:
            if named.setdefault(name, _checked(variable)) is not variable:
                raise GraphError(f"two variables would be saved as {name!r}")
        if not named and not self._allow_empty:
            raise GraphError("no variables to save: make some before the Saver")
        return named

    # ---- saving

    def save(
        self,
        sess: Any,
        save_path: str,
        global_step: Any = None,
        latest_filename: str | None = None,
        meta_graph_suffix: str = "meta",
        write_meta_graph: bool = True,
        write_state: bool = True,
        strip_default_attrs: bool = False,
        save_debug_info: bool = False,
    ) -> str:
        """Write a checkpoint.

        Args:
          sess: the session whose values are saved.
          save_path: path and beginning of the names of its files.
          global_step: a number, or a variable or tensor of it, appended to the path.
          latest_filename: name of the folder's state file, "checkpoint" by default.
          write_state: enter it in the folder's state file.
          others: accepted for TensorFlow's sake.

        Returns:
          The checkpoint's name, for `restore`.

        Raises:
          ValueError: the path is empty.
          FailedPreconditionError: a variable has no value.
          OpError: the disk fails; the checkpoints before are as they were.
        """
        variables = self._variables()
        folder, last = os.path.split(os.fspath(save_path))
        if not last:
            raise GraphError(f"{save_path!r} names no file")
        prefix = os.path.join(folder, last)
        step = None
        if global_step is not None:
            step = int(global_step if isinstance(global_step, Integral) else sess.run(global_step))
            prefix = f"{prefix}-{step:08d}" if self._pad else f"{prefix}-{step}"
        plan = getattr(sess, "plan", None)  # of what ran so far, not of the save itself
        names = list(variables)
        values = sess.run([variables[name].as_graph_element() for name in names])
        tensors = {name: _array(value) for name, value in zip(names, values, strict=True)}
        metadata = {"global_step": step, "plan": plan and plan.digest}
        known = {key: value for key, value in metadata.items() if value is not None}
        checkpoint.write(prefix, tensors, metadata=known)
        if write_state:
            self._enter(prefix)
            checkpoint.update_state(folder, prefix, self.last_checkpoints, latest_filename)
            self._forget()
        return prefix

    def _enter(self, prefix: str) -> None:
        self._last = [entry for entry in self._last if entry[0] != prefix]
        self._last.append((prefix, time.time()))

    def _forget(self) -> None:
        """Delete what is too old; after the state file has ceased to name it."""
        while self._max_to_keep and len(self._last) > self._max_to_keep:
            path, when = self._last.pop(0)
            if when > self._next_kept:
                self._next_kept += self._hours * 3600
                continue
            checkpoint.delete(path)

    @property
    def last_checkpoints(self) -> list[str]:
        """The checkpoints that are kept, oldest first."""
        kept = self._last[-self._max_to_keep :] if self._max_to_keep else self._last
        return [path for path, _ in kept]

    def set_last_checkpoints(self, last_checkpoints: Sequence[str]) -> None:
        """Say which checkpoints exist already, oldest first."""
        self._last = [(path, time.time()) for path in last_checkpoints]

    def set_last_checkpoints_with_time(self, last: Sequence[tuple[str, float]]) -> None:
        """As `set_last_checkpoints`, with the times of their making."""
        self._last = list(last)

    def recover_last_checkpoints(self, checkpoint_paths: Sequence[str]) -> None:
        """Take over those of the checkpoints that exist."""
        found = [path for path in checkpoint_paths if checkpoint.exists(path)]
        self._last = [(path, os.path.getmtime(f"{path}.index")) for path in found]

    # ---- restoring

    def restore(self, sess: Any, save_path: str) -> None:
        """Give the variables of a session the values of a checkpoint: all of them, or none.

        Raises:
          ValueError: the path is None.
          NotFoundError: there is no such checkpoint, or it lacks a variable.
          InvalidArgumentError: a value has another shape or dtype than its variable.
          DataLossError: the checkpoint is damaged.
        """
        if save_path is None:
            raise GraphError("restore needs the path of a checkpoint, not None")
        variables = self._variables()
        reader = Reader(os.fspath(save_path))
        missing = [name for name in variables if not reader.has_tensor(name)]
        if missing:
            raise NotFoundError(
                None,
                None,
                f"the checkpoint {save_path} has no {', '.join(map(repr, missing))}; it has "
                f"{', '.join(sorted(reader.manifest.tensors))}",
            )
        values = reader.read(variables)
        feeds = {}
        for (name, variable), (fed, _) in zip(variables.items(), self._assignments, strict=True):
            feeds[fed] = self._fitting(variable, values[name], save_path)
        sess.run([assign for _, assign in self._assignments], feeds)

    def _fitting(self, variable: Variable, value: Any, path: str) -> Any:
        dims, dtype = variable.dims, variable.dtype
        if self._reshape and dims is not None and value.shape != dims:
            value = value.reshape(dims)
        if (dims is not None and value.shape != dims) or value.dtype != dtype.np:
            raise InvalidArgumentError(
                variable.op.name,
                variable.op,
                f"variable {variable.name!r} is {dtype.name}{list(dims or ())}, but the checkpoint "
                f"{path} has {value.dtype}{list(value.shape)}; built at {variable.op.site}",
            )
        return value

    def _variables(self) -> dict[str, Variable]:
        if self._built is None:
            self.build()
        assert self._built is not None
        return self._built


def _checked(variable: Any) -> Variable:
    if not isinstance(variable, Variable):
        raise TypeError(f"{variable!r} is no tf.Variable, and so cannot be saved")
    return variable


def _assignments(variables: Iterable[Variable]) -> list[tuple[Tensor, Operation]]:
    """For each variable what to feed and what to run to give it a value: that is its initial
    value and its initializer, unless it begins with the same tensor as one before it."""
    found: dict[Tensor, Operation] = {}
    for variable in variables:
        fed, assign = variable.initial_value, variable.initializer
        if fed in found:
            graph = variable.graph
            with graph.as_default(), graph.control_dependencies(None), graph.name_scope("save"):
                fed = placeholder(variable.dtype, variable.dims)
                assign = variable.assign(fed, read_value=False)
        found[fed] = assign
    return list(found.items())


def _array(value: Any) -> Any:
    if isinstance(value, bytes):
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


# ---- TensorFlow's functions


def latest_checkpoint(checkpoint_dir: str, latest_filename: str | None = None) -> str | None:
    """The last checkpoint of a folder, or None."""
    return checkpoint.latest(os.fspath(checkpoint_dir), latest_filename)


def get_checkpoint_state(
    checkpoint_dir: str, latest_filename: str | None = None
) -> CheckpointState | None:
    """What the state file of a folder says, or None."""
    return checkpoint.get_state(os.fspath(checkpoint_dir), latest_filename)


def update_checkpoint_state(
    save_dir: str,
    model_checkpoint_path: str,
    all_model_checkpoint_paths: Sequence[str] | None = None,
    latest_filename: str | None = None,
) -> None:
    """Write the state file of a folder."""
    kept = all_model_checkpoint_paths or ()
    checkpoint.update_state(save_dir, model_checkpoint_path, kept, latest_filename)


def checkpoint_exists(checkpoint_prefix: str) -> bool:
    """Is there a checkpoint of that name?"""
    return checkpoint.exists(os.fspath(checkpoint_prefix))


def remove_checkpoint(checkpoint_prefix: str) -> None:
    """Delete a checkpoint."""
    checkpoint.delete(os.fspath(checkpoint_prefix))


def load_checkpoint(ckpt_dir_or_file: str) -> Reader:
    """The reader of a checkpoint, or of the last one of a folder.

    Raises:
      ValueError: the folder has none.
    """
    path = os.fspath(ckpt_dir_or_file)
    found = checkpoint.latest(path) if os.path.isdir(path) else path
    if found is None:
        raise GraphError(f"there is no checkpoint in {path}")
    return Reader(found)


def list_variables(ckpt_dir_or_file: str) -> list[tuple[str, list[int]]]:
    """Names and shapes of a checkpoint's tensors."""
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


def load_variable(ckpt_dir_or_file: str, name: str) -> Any:
    """Value of a tensor of a checkpoint."""
    return load_checkpoint(ckpt_dir_or_file).get_tensor(re.sub(r":0$", "", name))
