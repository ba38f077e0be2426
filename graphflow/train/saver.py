"""Saver: variables to checkpoints and back."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from graphflow import checkpoint
from graphflow.base.errors import GraphError, InvalidArgumentError, NotFoundError
from graphflow.base.shapes import Dims
from graphflow.build import Operation, Tensor
from graphflow.build.defaults import get_default_graph
from graphflow.build.keys import GraphKeys
from graphflow.checkpoint import CheckpointState, Reader
from graphflow.ops.partitioned import PartitionedVariable, parts_of
from graphflow.ops.sources import placeholder
from graphflow.ops.variables import Variable

_log = logging.getLogger("graphflow")


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
        var_list: a list of variables, or a mapping from names in the checkpoint to variables, or
          to lists of parts; None: all that can be saved when it is first used.  The parts of a
          partitioned variable are one tensor of the checkpoint, so they may be other parts when
          they are restored.
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
        self._plan: str | None = None  # of the checkpoint that was restored
        self._from = ""
        self._built: dict[str, list[Variable]] | None = None
        self._assignments: list[tuple[Tensor, Operation]] = []
        if not defer_build:
            self.build()

    def build(self) -> None:
        """Fix which variables are saved."""
        self._built = self._by_name()
        self._assignments = _assignments(v for parts in self._built.values() for v in parts)

    def _by_name(self) -> dict[str, list[Variable]]:
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
            named = {name: _parts(item) for name, item in given.items()}
        else:
            named = _by_their_names(given)
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
        values = sess.run([[v.as_graph_element() for v in vs] for vs in variables.values()])
        pairs = zip(variables.items(), values, strict=True)
        tensors = {name: _whole(parts, pieces) for (name, parts), pieces in pairs}
        digest, numerics = plan and plan.digest, _numerics(sess)
        if digest and self._plan and digest != self._plan:
            _log.warning("since %s was restored, another plan has run than before it", self._from)
            self._plan = None
        metadata = {"global_step": step, "plan": digest, "numerics": numerics}
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
        pieces: list[Any] = []
        for name, parts in variables.items():
            value = self._fitting(parts[0], values[name], save_path)
            pieces += [value if len(parts) == 1 else value[v.slice_info.region] for v in parts]
        fed = [tensor for tensor, _ in self._assignments]
        feeds = dict(zip(fed, pieces, strict=True))
        sess.run([assign for _, assign in self._assignments], feeds)
        self._compare(sess, reader, save_path)

    def _compare(self, sess: Any, reader: Reader, path: str) -> None:
        """Tell where training will not go on with the same bits; whether by the same plan, the
        next save tells."""
        self._plan, self._from = reader.manifest.metadata.get("plan"), path
        saved, now = reader.manifest.metadata.get("numerics"), _numerics(sess)
        if isinstance(saved, dict) and now is not None and saved != now:
            other = [
                f"{k} {saved.get(k)!r}, now {v!r}" for k, v in now.items() if saved.get(k) != v
            ]
            _log.warning(
                "%s was written by a session that may compute other last bits: %s",
                path,
                "; ".join(other),
            )

    def _fitting(self, variable: Variable, value: Any, path: str) -> Any:
        dims, dtype = _saved_dims(variable), variable.dtype
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

    def _variables(self) -> dict[str, list[Variable]]:
        if self._built is None:
            self.build()
        assert self._built is not None
        return self._built


def _numerics(sess: Any) -> dict[str, Any] | None:
    """What the last bits depend on, as a checkpoint holds it."""
    numerics = getattr(sess, "numerics", None)
    return None if numerics is None else numerics._asdict()


def _checked(variable: Any) -> Variable:
    if not isinstance(variable, Variable):
        raise TypeError(f"{variable!r} is no tf.Variable, and so cannot be saved")
    return variable


def _parts(item: Any) -> list[Variable]:
    """What is saved under one name: a variable, or all parts of a larger tensor.

    Raises:
      ValueError: the list holds something else than such parts.
    """
    if not isinstance(item, (list, tuple, PartitionedVariable)):
        return [_checked(item)]
    parts = [_checked(v) for entry in item for v in parts_of(entry)]
    places = [v.slice_info for v in parts]
    if None in places or len({(p.full_name, p.full_shape) for p in places}) != 1:
        raise GraphError(f"{parts} are not the parts of one partitioned variable")
    return parts


def _by_their_names(given: Iterable[Any]) -> dict[str, list[Variable]]:
    """Variables by the names of what they are, or are parts of."""
    named: dict[str, list[Variable]] = {}
    for variable in [_checked(v) for item in given for v in parts_of(item)]:
        place = variable.slice_info
        known = named.setdefault(variable.op.name if place is None else place.full_name, [])
        if variable in known:
            continue
        if known and (place is None or known[0].slice_info is None):
            raise GraphError(f"two variables would be saved as {known[0].op.name!r}")
        known.append(variable)
    return named


def _saved_dims(variable: Variable) -> Dims:
    """Shape of the tensor that a checkpoint holds for it."""
    place = variable.slice_info
    return variable.dims if place is None else place.full_shape


def _whole(parts: list[Variable], pieces: list[Any]) -> Any:
    """The tensor that the parts are, from their values."""
    if len(parts) == 1:
        return _array(pieces[0])
    whole = np.zeros(parts[0].slice_info.full_shape, parts[0].dtype.np)
    for part, piece in zip(parts, pieces, strict=True):
        whole[part.slice_info.region] = piece
    return whole


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
