"""TensorFlow's other names: legacy aliases as tables, `compat.v1`, and the stand-in module."""

from graphflow.compat import v1
from graphflow.compat.standin import install
from graphflow.compat.strings import as_bytes, as_str, as_str_any, as_text

__all__ = ["as_bytes", "as_str", "as_str_any", "as_text", "install", "v1"]
