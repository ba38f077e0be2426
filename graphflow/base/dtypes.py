"""Element types: TensorFlow's names over NumPy's dtypes.

`as_dtype` accepts a `DType`, a name, a NumPy dtype or scalar type, and Python's bool, int,
float, complex and str.
"""

from __future__ import annotations

from typing import Any

import numpy as np


class DType:
    """One element type.  There is one instance per type, so `is` and `==` agree.

    Attributes:
      name: TensorFlow's name, such as "float32".
      np: the NumPy dtype of arrays of this type; strings, resources and variants are objects.
    """

    __slots__ = (
        "is_bool",
        "is_complex",
        "is_floating",
        "is_integer",
        "is_unsigned",
        "name",
        "np",
    )

    def __init__(self, name: str, numpy_dtype: Any):
        self.name = name
        self.np = np.dtype(numpy_dtype)
        kind = "f" if name == "bfloat16" else self.np.kind
        self.is_floating = kind == "f"
        self.is_integer = kind in "iu"
        self.is_unsigned = kind == "u"
        self.is_complex = kind == "c"
        self.is_bool = kind == "b"

    @property
    def as_numpy_dtype(self) -> type:
        """NumPy's scalar type, as in TensorFlow."""
        return self.np.type

    @property
    def base_dtype(self) -> DType:
        return self

    @property
    def is_numeric(self) -> bool:
        """Can its elements be added?"""
        return self.is_floating or self.is_integer or self.is_complex

    @property
    def is_differentiable(self) -> bool:
        return self.is_floating or self.is_complex

    @property
    def real_dtype(self) -> DType:
        """The dtype of the real part."""
        return {"complex64": float32, "complex128": float64}.get(self.name, self)

    @property
    def size(self) -> int:
        """Bytes per element."""
        return self.np.itemsize

    @property
    def min(self) -> Any:
        """Smallest value."""
        return self._limit("min", False)

    @property
    def max(self) -> Any:
        """Largest value."""
        return self._limit("max", True)

    @property
    def limits(self) -> tuple[Any, Any]:
        return self.min, self.max

    def _limit(self, which: str, of_bool: bool) -> Any:
        if self.is_bool:
            return of_bool
        if self.is_integer:
            return getattr(np.iinfo(self.np), which)
        if self.is_floating:
            if self.name == "bfloat16":
                import ml_dtypes

                return getattr(ml_dtypes.finfo(self.np), which)  # type: ignore[no-untyped-call]
            return getattr(np.finfo(self.np), which)
        raise TypeError(f"{self.name} has no {which}imum value")

    def is_compatible_with(self, other: Any) -> bool:
        return self is as_dtype(other)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other is None or isinstance(other, DType):
            return False
        try:
            return as_dtype(other) is self
        except TypeError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    def __str__(self) -> str:
        return f"<dtype: {self.name!r}>"

    def __reduce__(self) -> Any:
        return as_dtype, (self.name,)


bool_ = DType("bool", np.bool_)
int8 = DType("int8", np.int8)
int16 = DType("int16", np.int16)
int32 = DType("int32", np.int32)
int64 = DType("int64", np.int64)
uint8 = DType("uint8", np.uint8)
uint16 = DType("uint16", np.uint16)
uint32 = DType("uint32", np.uint32)
uint64 = DType("uint64", np.uint64)
float16 = DType("float16", np.float16)
float32 = DType("float32", np.float32)
float64 = DType("float64", np.float64)
complex64 = DType("complex64", np.complex64)
complex128 = DType("complex128", np.complex128)
string = DType("string", object)
resource = DType("resource", object)  # the name of a piece of state: a variable, a queue
variant = DType("variant", object)  # a Python value that only ops look into: a list of arrays

_PLAIN = (
    bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
    float16, float32, float64, complex64, complex128,
)  # fmt: skip
_BY_NAME = {t.name: t for t in (*_PLAIN, string, resource, variant)}
_BY_NAME |= {"half": float16, "float": float32, "double": float64, "str": string}
_BY_NUMPY = {t.np: t for t in _PLAIN}
_BY_PYTHON: dict[type, DType] = {
    bool: bool_,
    int: int32,
    float: float32,
    complex: complex128,
    str: string,
    bytes: string,
    object: string,
}


def __getattr__(name: str) -> DType:
    if name == "bfloat16":  # ml_dtypes is imported when it is first needed
        if name not in _BY_NAME:  # one object only: dtypes are compared by identity
            import ml_dtypes

            dtype = DType(name, ml_dtypes.bfloat16)
            globals()[name] = _BY_NAME[name] = _BY_NUMPY[dtype.np] = dtype
        return _BY_NAME[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def as_dtype(value: Any) -> DType:
    """The `DType` for anything that names one.

    Raises:
      TypeError: it names none.
    """
    if type(value) is DType:
        return value
    if isinstance(value, str):
        if value.endswith("_ref"):
            value = value[:-4]
        if value == "bfloat16":
            return __getattr__(value)
        if (found := _BY_NAME.get(value)) is not None:
            return found
    if isinstance(value, type) and (found := _BY_PYTHON.get(value)) is not None:
        return found
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError, SyntaxError):  # the latter ones of texts with a comma
        raise TypeError(f"cannot convert {value!r} to a dtype") from None
    if (found := _BY_NUMPY.get(dtype)) is not None:
        return found
    if dtype.kind in "OSU":
        return string
    if dtype.name == "bfloat16":
        return __getattr__("bfloat16")
    if (found := _BY_NUMPY.get(dtype.newbyteorder("="))) is not None:  # big-endian files
        return found
    raise TypeError(f"cannot convert {value!r} to a dtype")
