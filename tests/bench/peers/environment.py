# ruff: noqa
"""Import this module before NumPy.

The OpenBLAS bundled with NumPy reads OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE when
the library loads. A shell that sets them (to share one build between hosts, say)
makes every matrix product run the wrong kernel: 'Haswell' halves the GEMM speed
of a CPU with AVX-512. Both must be unset before NumPy loads.
"""

import os

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)
