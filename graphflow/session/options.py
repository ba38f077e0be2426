"""What a program may ask of a session: TensorFlow 1's ConfigProto and its relatives.

They are plain objects with the protocol buffers' field names.  Fields that have no meaning
here are accepted, kept and ignored; unknown ones are errors, as they are in TensorFlow.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from graphflow.execute.trace import StepStats


class _Message:
    """What protocol buffers offer besides their fields."""

    __slots__ = ()

    def CopyFrom(self, other: Any) -> None:
        """Take over the fields of another message of this kind.

        Raises:
          TypeError: it is of another kind.
        """
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__} cannot copy a {type(other).__name__}")
        for each in fields(self):  # type: ignore[arg-type]
            setattr(self, each.name, copy.deepcopy(getattr(other, each.name)))


@dataclass(slots=True)
class GPUOptions(_Message):
    """How GPUs are used.  `visible_device_list` counts; CuPy's pool grows as needed."""

    per_process_gpu_memory_fraction: float = 0.0
    allow_growth: bool = False
    allocator_type: str = ""
    deferred_deletion_bytes: int = 0
    visible_device_list: str = ""
    polling_active_delay_usecs: int = 0
    polling_inactive_delay_msecs: int = 0
    force_gpu_compatible: bool = False
    experimental: Any = None


@dataclass(slots=True)
class OptimizerOptions(_Message):
    """Accepted for TensorFlow's sake; graphflow always rewrites exactly."""

    L1: ClassVar = 0
    L0: ClassVar = -1
    OFF: ClassVar = -1
    DEFAULT: ClassVar = 0
    ON_1: ClassVar = 1
    ON_2: ClassVar = 2
    do_common_subexpression_elimination: bool = False
    do_constant_folding: bool = False
    do_function_inlining: bool = False
    opt_level: int = 0
    global_jit_level: int = 0
    max_folded_constant_in_bytes: int = 0


@dataclass(slots=True)
class GraphOptions(_Message):
    """Accepted for TensorFlow's sake."""

    enable_recv_scheduling: bool = False
    optimizer_options: OptimizerOptions = field(default_factory=OptimizerOptions)
    build_cost_model: int = 0
    build_cost_model_after: int = 0
    infer_shapes: bool = False
    place_pruned_graph: bool = False
    enable_bfloat16_sendrecv: bool = False
    timeline_step: int = 0
    rewrite_options: Any = None


@dataclass(slots=True)
class ConfigProto(_Message):
    """Options of a session.

    Attributes:
      device_count: how many devices of a kind there are, such as {"CPU": 4} for four virtual
        CPUs that run in threads of this process.
      intra_op_parallelism_threads: threads within one kernel; 0: as many as cores.
      inter_op_parallelism_threads: accepted; devices run in parallel, ops of one in order.
      allow_soft_placement: run an op elsewhere where its requested device is missing, or is another
        one of the task than those that it must share a device with ask for.
      log_device_placement: print which device runs what.
      operation_timeout_in_ms: deadline of a run; 0: none.
      memory_limit: bytes of computed values that a step may hold at once, variables and feeds
        aside; what would be more is computed again where it is needed.  0: none.  Sizes that the
        graph does not tell are those of the first feeds.  TensorFlow has no such field.
      deterministic: what runs a step is fixed before the first one, so that the same program gives
        the same bits in each process, on machines with as many cores of that kind; the session's
        seed is 0 unless one is given.  By default, native code takes over when it is ready.
        TensorFlow has no such field, but `tf.config.experimental.enable_op_determinism()`, which
        sets it for all sessions from then on.
    """

    device_count: dict[str, int] = field(default_factory=dict)
    intra_op_parallelism_threads: int = 0
    inter_op_parallelism_threads: int = 0
    use_per_session_threads: bool = False
    session_inter_op_thread_pool: list[Any] = field(default_factory=list)
    placement_period: int = 0
    device_filters: list[Any] = field(default_factory=list)
    gpu_options: GPUOptions = field(default_factory=GPUOptions)
    allow_soft_placement: bool = False
    log_device_placement: bool = False
    graph_options: GraphOptions = field(default_factory=GraphOptions)
    operation_timeout_in_ms: int = 0
    rpc_options: Any = None
    cluster_def: Any = None
    isolate_session_state: bool = False
    share_cluster_devices_in_session: bool = False
    experimental: Any = None
    memory_limit: int = 0
    deterministic: bool = field(default_factory=lambda: _deterministic)


_deterministic = False  # what `ConfigProto` says where its user does not


def enable_op_determinism() -> None:
    """Have all sessions that are opened from now on be deterministic, see `ConfigProto`.

    TensorFlow demands a seed then for each random op; here the session has one for all.
    """
    global _deterministic
    _deterministic = True


@dataclass(slots=True)
class RunOptions(_Message):
    """Options of one run.

    Attributes:
      trace_level: FULL_TRACE fills the `RunMetadata` with the time of each step.
      timeout_in_ms: deadline of this run; 0: the session's.
    """

    NO_TRACE: ClassVar = 0
    SOFTWARE_TRACE: ClassVar = 1
    HARDWARE_TRACE: ClassVar = 2
    FULL_TRACE: ClassVar = 3
    trace_level: int = 0
    timeout_in_ms: int = 0
    inter_op_thread_pool: int = 0
    output_partition_graphs: bool = False
    debug_options: Any = None
    report_tensor_allocations_upon_oom: bool = False
    experimental: Any = None

    def merged(self, other: RunOptions) -> RunOptions:
        """For a run of which two ask something: the more of both."""
        return replace(
            self,
            trace_level=max(self.trace_level, other.trace_level),
            timeout_in_ms=max(self.timeout_in_ms, other.timeout_in_ms),
            output_partition_graphs=self.output_partition_graphs or other.output_partition_graphs,
        )


@dataclass(slots=True)
class RunMetadata(_Message):
    """What a traced run tells.

    Attributes:
      step_stats: list of `execute.trace.Span`, one per kernel called; its `dev_stats` are as in
        TensorFlow.
      partition_graphs: the plans that ran, as text; also where `output_partition_graphs` asks for
        them and nothing is traced.
    """

    step_stats: StepStats = field(default_factory=StepStats)
    partition_graphs: list[Any] = field(default_factory=list)
    cost_graph: Any = None
