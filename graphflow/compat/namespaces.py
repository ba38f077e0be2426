"""TensorFlow's namespaces, such as `tf.math` and `tf.linalg`: tables over names found elsewhere."""

from __future__ import annotations

import importlib
from types import MappingProxyType, ModuleType
from typing import Any, Final

import graphflow

# namespace -> names that it shares with the top level
SHARED: Final = MappingProxyType(
    {
        "math": """
        abs accumulate_n acos acosh add add_n angle argmax argmin asin asinh atan atan2
        atanh betainc bincount ceil confusion_matrix
        conj cos cosh cross count_nonzero cumprod cumsum digamma divide equal
        erf erfc erfinv exp expm1 floor floordiv floormod greater greater_equal igamma
        igammac imag invert_permutation is_finite is_inf is_nan lbeta less less_equal
        lgamma log log1p log_sigmoid logical_and logical_not logical_or
        logical_xor maximum minimum mod multiply negative not_equal polygamma pow real
        reciprocal reduce_all reduce_any reduce_euclidean_norm reduce_logsumexp reduce_max
        reduce_mean reduce_min reduce_prod reduce_std reduce_sum reduce_variance rint
        round rsqrt scalar_mul segment_max segment_mean segment_min segment_prod
        segment_sum sigmoid sign sin sinh sqrt square
        squared_difference subtract tan tanh truediv unsorted_segment_max
        unsorted_segment_mean unsorted_segment_min unsorted_segment_prod
        unsorted_segment_sqrt_n unsorted_segment_sum xdivy xlogy zeta
        """,
        "linalg": """
        cholesky cholesky_solve einsum eye global_norm matmul norm qr svd tensordot trace
        """,
        "random": "get_seed multinomial set_random_seed truncated_normal",
        "spectral": "fft fft2d fft3d ifft ifft2d ifft3d",
        "signal": "fft fft2d fft3d ifft ifft2d ifft3d",
        "sparse": "SparseTensor",
        "manip": """
        batch_to_space_nd gather_nd reshape reverse roll scatter_nd space_to_batch_nd tile
        """,
        "debugging": """
        Assert assert_equal assert_greater assert_greater_equal assert_integer assert_less
        assert_less_equal assert_near assert_negative assert_non_negative
        assert_non_positive assert_none_equal assert_positive assert_proper_iterable
        assert_rank assert_rank_at_least assert_rank_in assert_scalar assert_type
        check_numerics is_finite is_inf is_nan
        """,
    }
)

# namespace -> name in it -> path from the top level, or "module:" and a module
RENAMED: Final = MappingProxyType(
    {
        "math": {
            **{
                name: f"ops.bessel.{name}"
                for name in ("bessel_i0", "bessel_i0e", "bessel_i1", "bessel_i1e")
            },
            **{name: f"ops.special.{name}" for name in ("erfcinv", "ndtri", "xlog1py")},
            **{name: f"ops.composites.{name}" for name in ("polyval", "reciprocal_no_nan")},
            "is_non_decreasing": "is_non_decreasing",
            "is_strictly_increasing": "is_strictly_increasing",
            "multiply_no_nan": "ops.special.multiply_no_nan",
            "divide_no_nan": "div_no_nan",
            "in_top_k": "nn.in_top_k",
            "l2_normalize": "nn.l2_normalize",
            "log_softmax": "nn.log_softmax",
            "softmax": "nn.softmax",
            "softplus": "nn.softplus",
            "softsign": "nn.softsign",
            "top_k": "nn.top_k",
            "zero_fraction": "nn.zero_fraction",
        },
        "linalg": {
            **{
                name: f"ops.composites.{name}"
                for name in ("adjoint", "matvec", "normalize", "pinv")
            },
            "cross": "cross",
            "logdet": "logdet",
            "matrix_transpose": "matrix_transpose",
            "slogdet": "slogdet",
            "band_part": "matrix_band_part",
            "det": "matrix_determinant",
            "diag": "matrix_diag",
            "diag_part": "matrix_diag_part",
            "eigh": "self_adjoint_eig",
            "eigvalsh": "self_adjoint_eigvals",
            "inv": "matrix_inverse",
            "l2_normalize": "nn.l2_normalize",
            "lstsq": "matrix_solve_ls",
            "set_diag": "matrix_set_diag",
            "solve": "matrix_solve",
            "tensor_diag": "diag",
            "tensor_diag_part": "diag_part",
            "transpose": "matrix_transpose",
            "triangular_solve": "matrix_triangular_solve",
        },
        "random": {
            **{
                name: f"nn.{name}"
                for name in (
                    "all_candidate_sampler",
                    "fixed_unigram_candidate_sampler",
                    "learned_unigram_candidate_sampler",
                    "log_uniform_candidate_sampler",
                    "uniform_candidate_sampler",
                )
            },
            "categorical": "ops.categorical.categorical",
            "gamma": "random_gamma",
            "normal": "random_normal",
            "poisson": "random_poisson",
            "shuffle": "random_shuffle",
            "uniform": "random_uniform",
        },
        **{
            name: {kind: f"ops.spectral.{kind}" for kind in ("irfft", "irfft2d", "rfft", "rfft2d")}
            for name in ("spectral", "signal")
        },
        "sparse": {
            "add": "sparse_add",
            "concat": "sparse_concat",
            "eye": "ops.sparse_algebra.sparse_eye",
            "fill_empty_rows": "sparse_fill_empty_rows",
            "from_dense": "ops.sparse_algebra.from_dense",
            "matmul": "sparse_matmul",
            "merge": "sparse_merge",
            "reduce_max": "sparse_reduce_max",
            "reset_shape": "sparse_reset_shape",
            "reshape": "sparse_reshape",
            "retain": "sparse_retain",
            "segment_mean": "sparse_segment_mean",
            "segment_sqrt_n": "sparse_segment_sqrt_n",
            "segment_sum": "sparse_segment_sum",
            "slice": "sparse_slice",
            "softmax": "sparse_softmax",
            "split": "sparse_split",
            "to_indicator": "sparse_to_indicator",
            "transpose": "sparse_transpose",
            "placeholder": "sparse_placeholder",
            "reduce_sum": "sparse_reduce_sum",
            "reorder": "sparse_reorder",
            "sparse_dense_matmul": "sparse_tensor_dense_matmul",
            "to_dense": "sparse_tensor_to_dense",
        },
        "strings": {
            "as_string": "as_string",
            "join": "string_join",
            "length": "ops.text.string_length",
            "lower": "ops.text.string_lower",
            "reduce_join": "reduce_join",
            "regex_full_match": "ops.text.regex_full_match",
            "regex_replace": "regex_replace",
            "split": "string_split",
            "strip": "string_strip",
            "substr": "substr",
            "to_hash_bucket_fast": "string_to_hash_bucket_fast",
            "to_number": "string_to_number",
            "upper": "ops.text.string_upper",
        },
        "bitwise": {
            "bitwise_and": "ops.compare.bitwise_and",
            "bitwise_or": "ops.compare.bitwise_or",
            "bitwise_xor": "ops.compare.bitwise_xor",
            "invert": "ops.compare.invert",
            "left_shift": "ops.compare.left_shift",
            "right_shift": "ops.compare.right_shift",
        },
        "client": {"timeline": "module:graphflow.compat.timeline"},
        "config": {"experimental": "namespace:config.experimental"},
        "config.experimental": {
            "enable_op_determinism": "session.options.enable_op_determinism",
        },
        "version": {"VERSION": "__version__"},
        "graph_util": {
            name: f"serialize.{name}"
            for name in (
                "convert_variables_to_constants",
                "extract_sub_graph",
                "import_graph_def",
                "remove_training_nodes",
                "tensor_shape_from_node_def_name",
            )
        },
        "io": {"gfile": "namespace:io.gfile", "write_graph": "train.write_graph"},
        "io.gfile": {
            "GFile": "compat.gfile.GFile",
            "copy": "compat.gfile.Copy",
            "exists": "compat.gfile.Exists",
            "glob": "compat.gfile.Glob",
            "isdir": "compat.gfile.IsDirectory",
            "listdir": "compat.gfile.ListDirectory",
            "makedirs": "compat.gfile.MakeDirs",
            "mkdir": "compat.gfile.MkDir",
            "remove": "compat.gfile.Remove",
            "rename": "compat.gfile.Rename",
            "rmtree": "compat.gfile.DeleteRecursively",
            "stat": "compat.gfile.Stat",
            "walk": "compat.gfile.Walk",
        },
        "python": {"framework": "namespace:python.framework"},
        "python.framework": {"ops": "module:graphflow.ops"},
        "contrib": {
            "layers": "module:graphflow.compat.contrib_layers",
            "rnn": "namespace:contrib.rnn",
            "distributions": "module:graphflow.compat.distributions",
            "framework": "namespace:contrib.framework",
            "seq2seq": "namespace:contrib.seq2seq",
            "training": "namespace:contrib.training",
        },
        "contrib.framework": {
            name: f"train.{name}"
            for name in (
                "assert_global_step",
                "create_global_step",
                "get_global_step",
                "get_or_create_global_step",
                "list_variables",
                "load_checkpoint",
                "load_variable",
            )
        },
        "contrib.training": {
            name: f"train.device_setter.{name}"
            for name in ("GreedyLoadBalancingStrategy", "RandomStrategy", "byte_size_load_fn")
        },
        "contrib.seq2seq": {"sequence_loss": "nn.sequence_loss.sequence_loss"},
        "contrib.rnn": {
            **{
                name: f"nn.rnn_cell.{name}"
                for name in (
                    "BasicLSTMCell",
                    "BasicRNNCell",
                    "DeviceWrapper",
                    "DropoutWrapper",
                    "GRUCell",
                    "LSTMCell",
                    "LSTMStateTuple",
                    "MultiRNNCell",
                    "RNNCell",
                    "ResidualWrapper",
                )
            },
            "static_bidirectional_rnn": "nn.static_bidirectional_rnn",
            "static_rnn": "nn.static_rnn",
        },
    }
)

_MODULES: Final = MappingProxyType(
    {
        "test": "graphflow.compat.testing",
        "app": "graphflow.compat.app",
        "distributions": "graphflow.compat.distributions",
        "flags": "graphflow.compat.flags",
        "logging": "graphflow.compat.logs",
        "gfile": "graphflow.compat.gfile",
    }
)


class Namespace(ModuleType):
    """A module whose names are looked up when they are asked for."""

    def __init__(self, name: str):
        super().__init__(f"graphflow.{name}", f"TensorFlow's namespace {name}.")
        self._paths = {n: n for n in SHARED.get(name, "").split()} | RENAMED.get(name, {})

    def __getattr__(self, name: str) -> Any:
        path = self.__dict__["_paths"].get(name)
        if path is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if path.startswith("module:"):
            return importlib.import_module(path.removeprefix("module:"))
        if path.startswith("namespace:"):
            return find(path.removeprefix("namespace:"))
        module, _, last = path.rpartition(".")
        owner = importlib.import_module(f"graphflow.{module}") if module else graphflow
        return getattr(owner, last)

    def __dir__(self) -> list[str]:
        return sorted(self._paths)


_made: dict[str, Namespace] = {}


def find(name: str) -> ModuleType | None:
    """The namespace of that name, the same one each time; None where there is none."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _made and (name in SHARED or name in RENAMED):
        _made[name] = Namespace(name)
    return _made.get(name)
