"""Ops: one entry per op, and TensorFlow 1's functions that add them to a graph."""

from types import ModuleType as _ModuleType

# ---- end of control flow
# ---- scopes and collections of the default graph, sources and variables
from graphflow.build.default_graph import (
    add_to_collection,
    add_to_collections,
    colocate_with,
    container,
    control_dependencies,
    device,
    get_collection,
    get_collection_ref,
    name_scope,
)
from graphflow.build.defaults import (
    get_default_graph,
    get_default_session,
    reset_default_graph,
)

# ---- math
from graphflow.ops.accumulators import (
    ConditionalAccumulator,
    ConditionalAccumulatorBase,
    SparseConditionalAccumulator,
)
from graphflow.ops.activations import (
    elu,
    gelu,
    leaky_relu,
    log_sigmoid,
    relu,
    relu6,
    selu,
    sigmoid,
    softplus,
    softsign,
    step,
    swish,
)
from graphflow.ops.arithmetic import (
    atan2,
    floordiv,
    floormod,
    maximum,
    minimum,
    multiply,
    realdiv,
    squared_difference,
    subtract,
    truncatediv,
    truncatemod,
)

# ---- end of math
# ---- arrays
from graphflow.ops.assertions import (
    assert_equal,
    assert_greater,
    assert_greater_equal,
    assert_integer,
    assert_less,
    assert_less_equal,
    assert_near,
    assert_negative,
    assert_non_negative,
    assert_non_positive,
    assert_none_equal,
    assert_positive,
    assert_proper_iterable,
    assert_rank,
    assert_rank_at_least,
    assert_rank_in,
    assert_scalar,
    assert_type,
)

# ---- end of arrays
# ---- nn and random
from graphflow.ops.bias import bias_add
from graphflow.ops.blocks import (
    batch_to_space,
    batch_to_space_nd,
    depth_to_space,
    space_to_batch,
    space_to_batch_nd,
    space_to_depth,
)
from graphflow.ops.casting import (
    bitcast,
    cast,
    convert_to_tensor,
    saturate_cast,
    to_bfloat16,
    to_complex64,
    to_complex128,
    to_double,
    to_float,
    to_int32,
    to_int64,
)
from graphflow.ops.categorical import multinomial
from graphflow.ops.checks import (
    Assert,
    Print,
    check_numerics,
    ensure_shape,
    guarantee_const,
    identity_n,
)
from graphflow.ops.checks import print_ as print

# ---- end of Python functions
from graphflow.ops.codecs import decode_raw, read_file, write_file
from graphflow.ops.compare import (
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    invert,
    is_finite,
    is_inf,
    is_nan,
    left_shift,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    right_shift,
)
from graphflow.ops.complexes import angle, complex, conj, imag, real

# ---- end of nn and random
# ---- control flow
from graphflow.ops.composites import (
    extract_image_patches,
    histogram_fixed_width,
    histogram_fixed_width_bins,
)
from graphflow.ops.cond import case, cond, switch_case
from graphflow.ops.conditions import boolean_mask, where, where_v2
from graphflow.ops.counting import bincount, confusion_matrix, cross, unravel_index

# ---- end of sources and variables
# ---- Python functions
from graphflow.ops.custom_gradient import custom_gradient
from graphflow.ops.diagonal import (
    diag,
    diag_part,
    matrix_band_part,
    matrix_diag,
    matrix_diag_part,
    matrix_set_diag,
    matrix_transpose,
    trace,
)
from graphflow.ops.edit_distance import edit_distance
from graphflow.ops.einsum import (
    einsum,
    tensordot,
)
from graphflow.ops.elementary import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    ceil,
    cos,
    cosh,
    exp,
    expm1,
    floor,
    log,
    log1p,
    negative,
    reciprocal,
    rint,
    rsqrt,
    sign,
    sin,
    sinh,
    sqrt,
    square,
    tan,
    tanh,
)
from graphflow.ops.filling import (
    eye,
    fill,
    linspace,
    one_hot,
    ones,
    ones_like,
    range,
    sequence_mask,
    zeros,
    zeros_like,
)
from graphflow.ops.functional import foldl, foldr, map_fn, scan
from graphflow.ops.gathering import gather, gather_nd, scatter_nd
from graphflow.ops.get_variable import get_local_variable, get_variable
from graphflow.ops.indexing import getitem
from graphflow.ops.initializers import (
    Initializer,
    constant_initializer,
    glorot_normal_initializer,
    glorot_uniform_initializer,
    ones_initializer,
    orthogonal_initializer,
    random_normal_initializer,
    random_uniform_initializer,
    truncated_normal_initializer,
    uniform_unit_scaling_initializer,
    variance_scaling_initializer,
    zeros_initializer,
)
from graphflow.ops.inspection import (
    add_check_numerics_ops,
    convert_to_tensor_or_sparse_tensor,
    dimension_value,
    is_non_decreasing,
    is_numeric_tensor,
    is_strictly_increasing,
    is_tensor,
    no_regularizer,
    verify_tensor_all_finite,
)
from graphflow.ops.joining import concat, parallel_stack, split, stack, unstack
from graphflow.ops.known import constant_value
from graphflow.ops.known import constant_value as get_static_value
from graphflow.ops.linalg import (
    cholesky,
    cholesky_solve,
    logdet,
    matrix_determinant,
    matrix_inverse,
    matrix_solve,
    matrix_solve_ls,
    matrix_triangular_solve,
    qr,
    self_adjoint_eig,
    self_adjoint_eigvals,
    slogdet,
    svd,
)
from graphflow.ops.math import abs, accumulate_n, add_n, floor_div, mod, pow, round, scalar_mul
from graphflow.ops.matmul import matmul
from graphflow.ops.norms import (
    clip_by_average_norm,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    count_nonzero,
    global_norm,
    norm,
    reduce_euclidean_norm,
    reduce_logsumexp,
    reduce_std,
    reduce_variance,
)
from graphflow.ops.operators import add, div, div_no_nan, divide, truediv
from graphflow.ops.padding import pad
from graphflow.ops.partial_writes import scatter_nd_add, scatter_nd_sub, scatter_nd_update
from graphflow.ops.partitioned import (
    PartitionedVariable,
    fixed_size_partitioner,
    min_max_variable_partitioner,
    variable_axis_size_partitioner,
)
from graphflow.ops.partitioning import (
    dynamic_partition,
    dynamic_stitch,
    tensor_scatter_add,
    tensor_scatter_sub,
    tensor_scatter_update,
)
from graphflow.ops.partitioning import tensor_scatter_add as tensor_scatter_nd_add
from graphflow.ops.partitioning import tensor_scatter_sub as tensor_scatter_nd_sub
from graphflow.ops.partitioning import tensor_scatter_update as tensor_scatter_nd_update
from graphflow.ops.py_func import numpy_function, py_func
from graphflow.ops.queues import (
    FIFOQueue,
    PaddingFIFOQueue,
    PriorityQueue,
    QueueBase,
    RandomShuffleQueue,
)
from graphflow.ops.random import (
    get_seed,
    random_normal,
    random_shuffle,
    random_uniform,
    set_random_seed,
    truncated_normal,
)
from graphflow.ops.recompute import recompute_grad
from graphflow.ops.reduce import (
    argmax,
    argmin,
    reduce_all,
    reduce_any,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
)
from graphflow.ops.reordering import reverse, reverse_sequence, roll
from graphflow.ops.reordering import reverse as reverse_v2
from graphflow.ops.sampling import random_crop, random_gamma, random_poisson
from graphflow.ops.scans import (
    cumprod,
    cumsum,
)
from graphflow.ops.scatter import (
    scatter_add,
    scatter_div,
    scatter_max,
    scatter_min,
    scatter_mul,
    scatter_sub,
    scatter_update,
)
from graphflow.ops.segments import (
    segment_max,
    segment_mean,
    segment_min,
    segment_prod,
    segment_sum,
    unsorted_segment_max,
    unsorted_segment_mean,
    unsorted_segment_min,
    unsorted_segment_prod,
    unsorted_segment_sqrt_n,
    unsorted_segment_sum,
)
from graphflow.ops.shape_ops import (
    expand_dims,
    rank,
    reshape,
    shape,
    shape_n,
    size,
    squeeze,
    transpose,
)
from graphflow.ops.shuffling import shuffled_row as _shuffled_row
from graphflow.ops.slices import (
    IndexedSlices,
    IndexedSlicesValue,
    convert_to_tensor_or_indexed_slices,
)
from graphflow.ops.slicing import slice_ as slice
from graphflow.ops.slicing import strided_slice
from graphflow.ops.softmax import log_softmax, softmax
from graphflow.ops.sorting import (
    argsort,
    batch_gather,
    invert_permutation,
    searchsorted,
    setdiff1d,
    sort,
    top_k,
    unique,
    unique_with_counts,
)
from graphflow.ops.sources import (
    constant,
    group,
    identity,
    no_op,
    placeholder,
    placeholder_with_default,
    stop_gradient,
)
from graphflow.ops.sources import tuple_ as tuple
from graphflow.ops.sparse import (
    SparseTensor,
    SparseTensorValue,
    sparse_concat,
    sparse_placeholder,
    sparse_reduce_sum,
    sparse_reorder,
    sparse_reshape,
    sparse_tensor_dense_matmul,
    sparse_tensor_to_dense,
    sparse_to_dense,
)
from graphflow.ops.sparse_algebra import (
    sparse_add,
    sparse_fill_empty_rows,
    sparse_matmul,
    sparse_merge,
    sparse_reduce_max,
    sparse_reset_shape,
    sparse_retain,
    sparse_slice,
    sparse_softmax,
    sparse_split,
    sparse_to_indicator,
    sparse_transpose,
)
from graphflow.ops.sparse_segments import (
    sparse_segment_mean,
    sparse_segment_sqrt_n,
    sparse_segment_sum,
)
from graphflow.ops.special import (
    betainc,
    digamma,
    erf,
    erfc,
    erfinv,
    igamma,
    igammac,
    lbeta,
    lgamma,
    polygamma,
    xdivy,
    xlogy,
    zeta,
)
from graphflow.ops.spectral import (
    fft,
    fft2d,
    fft3d,
    ifft,
    ifft2d,
    ifft3d,
)
from graphflow.ops.templates import make_template
from graphflow.ops.tensor_array import TensorArray
from graphflow.ops.text import (
    as_string,
    regex_replace,
    string_strip,
    string_to_hash_bucket_fast,
    string_to_number,
)
from graphflow.ops.text_parts import reduce_join, string_join, string_split, substr
from graphflow.ops.tiling import (
    broadcast_dynamic_shape,
    broadcast_static_shape,
    broadcast_to,
    meshgrid,
    repeat,
    tile,
)
from graphflow.ops.variable_scope import (
    AUTO_REUSE,
    VariableScope,
    get_variable_scope,
    variable_scope,
)
from graphflow.ops.variables import (
    Variable,
    assign,
    assign_add,
    assign_sub,
    global_variables,
    global_variables_initializer,
    init_scope,
    is_variable_initialized,
    local_variables,
    local_variables_initializer,
    model_variables,
    moving_average_variables,
    report_uninitialized_variables,
    tables_initializer,
    trainable_variables,
    variables_initializer,
)
from graphflow.ops.while_loop import while_loop

__all__ = [n for n, v in globals().items() if n[0] != "_" and not isinstance(v, _ModuleType)]
