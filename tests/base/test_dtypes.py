"""Dtypes: one object for each."""

from __future__ import annotations

import numpy as np
import pytest

from graphflow.base import dtypes


def test_bfloat16_is_one_object_however_it_is_named() -> None:
    """Dtypes are compared by identity; this one is made when it is first named."""
    import ml_dtypes

    first = dtypes.as_dtype("bfloat16")
    for name in ("bfloat16", "bfloat16_ref", ml_dtypes.bfloat16, np.dtype("bfloat16"), first):
        assert dtypes.as_dtype(name) is first
    assert dtypes.bfloat16 is first


@pytest.mark.parametrize("text", ["x", "i,j", "ij,jk->ik", "(1,", ""])
def test_texts_that_name_no_dtype_are_refused_and_equal_none(text):
    with pytest.raises(TypeError, match="cannot convert"):
        dtypes.as_dtype(text)
    assert dtypes.float32 != text
