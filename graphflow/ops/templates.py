"""`make_template`: a function whose variables are made by its first call and shared after."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from graphflow.base.errors import GraphError
from graphflow.build.keys import GraphKeys
from graphflow.ops.variable_scope import VariableScope, variable_scope


class Template:
    """A function with a variable scope of its own.

    Attributes:
      name: as it was given.
      var_scope_name: name of the scope; the variables' names begin with it.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], unique_name: str | None, getter: Any,
        create_scope_now: bool,
    ):  # fmt: skip
        self.name = name
        self._function = function
        self._unique_name = unique_name
        self._getter = getter
        self._scope: VariableScope | None = None
        self._called = False
        if create_scope_now:
            self._scope = self._open()

    def _open(self) -> VariableScope:
        default = None if self._unique_name else self.name
        with variable_scope(self._unique_name, default, custom_getter=self._getter) as scope:
            return scope

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._scope is None:
            self._scope = self._open()
        with variable_scope(self._scope, reuse=True if self._called else None):
            before = len(self._scope.trainable_variables())
            result = self._function(*args, **kwargs)
            if self._called and len(self._scope.trainable_variables()) != before:
                raise GraphError(
                    f"template {self.name!r} made a variable in a later call: make variables with "
                    "tf.get_variable, in the first one"
                )
        self._called = True
        return result

    @property
    def variable_scope(self) -> VariableScope | None:
        return self._scope

    @property
    def var_scope_name(self) -> str | None:
        return None if self._scope is None else self._scope.name

    @property
    def variables(self) -> list[Any]:
        """The global and local variables of its scope."""
        if self._scope is None:
            return []
        return [*self.global_variables, *self.local_variables]

    @property
    def global_variables(self) -> list[Any]:
        return self._of(GraphKeys.GLOBAL_VARIABLES)

    @property
    def local_variables(self) -> list[Any]:
        return self._of(GraphKeys.LOCAL_VARIABLES)

    @property
    def trainable_variables(self) -> list[Any]:
        return self._of(GraphKeys.TRAINABLE_VARIABLES)

    @property
    def trainable_weights(self) -> list[Any]:
        return self.trainable_variables

    @property
    def weights(self) -> list[Any]:
        return self.variables

    def _of(self, key: str) -> list[Any]:
        return [] if self._scope is None else self._scope.get_collection(key)


def make_template(
    name_: str,
    func_: Callable[..., Any],
    create_scope_now_: bool = False,
    unique_name_: str | None = None,
    custom_getter_: Any = None,
    **kwargs: Any,
) -> Template:
    """A function that shares its variables between calls.

    Args:
      name_: of the variable scope, made unique.
      func_: makes its variables with `get_variable`.
      create_scope_now_: choose the scope now instead of in the first call.
      unique_name_: a name for the scope that is taken as it is.
      custom_getter_: of the scope.
      kwargs: given to the function in each call.

    Raises:
      ValueError: when called, a call after the first one makes a trainable variable.
    """
    function = functools.partial(func_, **kwargs) if kwargs else func_
    return Template(name_, function, unique_name_, custom_getter_, create_scope_now_)
