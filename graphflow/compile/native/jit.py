"""LLVM IR -> machine code -> addresses.  llvmlite is imported here, when it is first needed."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from functools import cache
from typing import Any

from graphflow.compile.native.cache import ObjectCache

_lock = threading.Lock()  # LLVM's global context is not made for many threads


class Code:
    """Loaded machine code.  It must be kept as long as its functions are used."""

    def __init__(self, engine: Any):
        self._engine = engine

    def address(self, name: str) -> int:
        """Where a function lies.

        Raises:
          KeyError: there is none of that name.
        """
        address: int = self._engine.get_function_address(name)
        if not address:
            raise KeyError(name)
        return address

    def variable(self, name: str) -> int:
        """Where a global variable lies; 0 where there is none of that name."""
        address: int = self._engine.get_global_value_address(name)
        return address


@cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def _machine() -> Any:
    llvm = _llvm()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


def key_of(text: str) -> str:
    """Content key of the object code of some IR, on this CPU, by this LLVM."""
    llvm = _llvm()
    parts = (text, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(),
             repr(llvm.llvm_version_info))  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load(text: str, cache: ObjectCache | None = None) -> Code:
    """Machine code of some IR, from the cache where it is there.

    Raises:
      RuntimeError: LLVM rejects the text.
    """
    with _lock:
        key = key_of(text)
        code = cache.get(key) if cache else None
        if code is None:
            code = _compiled(text)
            if cache:
                cache.put(key, code)
        return _linked(code)


def _compiled(text: str) -> bytes:
    llvm = _llvm()
    machine = _machine()
    module = llvm.parse_assembly(text)
    module.verify()
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.loop_interleaving = True
    options.loop_unrolling = True
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


def assembly(text: str) -> str:
    """The machine code of some IR, as text."""
    llvm = _llvm()
    with _lock:
        machine = _machine()
        module = llvm.parse_assembly(text)
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        result: str = machine.emit_assembly(module)
        return result


def _linked(code: bytes) -> Code:
    llvm = _llvm()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Code(engine)


def function(address: int, *arguments: Any) -> Any:
    """A callable for an address; it releases the interpreter's lock while it runs."""
    return ctypes.CFUNCTYPE(None, *arguments)(address)
