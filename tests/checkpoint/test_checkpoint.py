"""The durable format: whole or not at all, checked when read, whatever dies in between."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphflow import checkpoint
from graphflow.base.errors import (
    DataLossError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnknownError,
)
from graphflow.checkpoint import files

OLD = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int64(1) * np.ones((), np.int64)}
NEW = {"w": OLD["w"] * 2, "n": OLD["n"] * 2, "more": np.zeros((0, 3))}


def same(got, want):
    assert sorted(got) == sorted(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype, name
        np.testing.assert_array_equal(got[name], value)


def test_what_was_written_is_read(tmp_path):
    prefix = str(tmp_path / "new" / "model.ckpt-7")
    strings = np.empty((2, 2), object)
    strings[:] = [[b"", b"a\0b"], ["ü".encode(), b"x" * 1000]]
    tensors = {
        **NEW,
        "strings": strings,
        "c64": np.array([1 + 2j, np.nan], np.complex64),
        "c128": np.array(3 - 1j),
        "bool": np.array([True, False]),
        "half": np.array([1.5, np.inf], np.float16),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scope/with/slashes": np.uint8(7) * np.ones(1, np.uint8),
    }
    checkpoint.write(prefix, tensors, metadata={"global_step": 7})
    same(checkpoint.read(prefix), tensors)
    reader = checkpoint.Reader(prefix)
    assert reader.manifest.metadata == {"global_step": 7}
    assert reader.get_variable_to_shape_map()["w"] == [2, 3]
    assert reader.has_tensor("w")
    assert not reader.has_tensor("v")
    np.testing.assert_array_equal(reader.get_tensor("w"), NEW["w"])


@given(
    st.dictionaries(
        st.text("ab/_1", min_size=1, max_size=6),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.int8, np.int64, np.uint16, np.bool_]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=5,
    ),
    st.integers(1, 200),
)
def test_any_tensors_in_any_number_of_files(tmp_path_factory, tensors, shard_bytes):
    prefix = str(tmp_path_factory.mktemp("c") / "m")
    checkpoint.write(prefix, tensors, shard_bytes=shard_bytes)
    same(checkpoint.read(prefix), tensors)


def test_several_files_when_it_is_large(tmp_path):
    prefix = str(tmp_path / "m")
    tensors = {f"v{i}": np.full(100, i, np.float32) for i in range(5)}
    manifest = checkpoint.write(prefix, tensors, shard_bytes=900)
    assert len(manifest.files) == 3
    same(checkpoint.read(prefix, ["v3", "v0"]), {k: tensors[k] for k in ("v3", "v0")})


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(NotFoundError, match="no checkpoint"):
        checkpoint.read(str(tmp_path / "none"))
    checkpoint.write(str(tmp_path / "m"), OLD)
    with pytest.raises(NotFoundError, match="'v' is not in the checkpoint"):
        checkpoint.read(str(tmp_path / "m"), ["v"])


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("where", [0.0, 0.3, 0.6, 0.99])
def test_a_changed_bit_is_found(tmp_path, where):
    prefix = str(tmp_path / "m")
    checkpoint.write(prefix, OLD)
    for path in tmp_path.iterdir():
        good = path.read_bytes()
        flip(path, int(len(good) * where))
        with pytest.raises(DataLossError):
            checkpoint.read(prefix)
        path.write_bytes(good)
    same(checkpoint.read(prefix), OLD)


def test_a_missing_or_cut_payload_is_found(tmp_path):
    prefix = str(tmp_path / "m")
    checkpoint.write(prefix, OLD)
    (payload,) = tmp_path.glob("m.data-*")
    payload.write_bytes(payload.read_bytes()[:-1])
    with pytest.raises(DataLossError, match="was changed"):
        checkpoint.read(prefix)
    payload.unlink()
    with pytest.raises(DataLossError, match="lacks its file"):
        checkpoint.read(prefix)


def test_another_format_is_refused(tmp_path):
    from graphflow.checkpoint.manifest import digest_of

    prefix = str(tmp_path / "m")
    checkpoint.write(prefix, OLD)
    index = tmp_path / "m.index"
    raw = json.loads(index.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[0])
    body = json.dumps(raw | {"format": 99}).encode()
    index.write_bytes(body + b"\n" + digest_of(body).encode() + b"\n")
    with pytest.raises(DataLossError, match="format 99"):
        checkpoint.read(prefix)


# ---- crashes

DYING = """
import os, signal, sys
import numpy as np
from graphflow import checkpoint
from graphflow.checkpoint import files

class Dying(files.Disk):
    left = int(sys.argv[2])
    def step(self):
        if not Dying.left:
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.left -= 1
    def create(self, path):
        self.step(); return super().create(path)
    def write(self, file, data):
        self.step(); data = memoryview(data)
        super().write(file, data[: len(data) // 2]); self.step()
        super().write(file, data[len(data) // 2 :])
    def sync(self, file):
        self.step(); super().sync(file)
    def rename(self, source, target):
        self.step(); super().rename(source, target)
    def sync_folder(self, folder):
        self.step(); super().sync_folder(folder)
    def remove(self, path):
        self.step(); super().remove(path)

files.DISK = Dying()
new = {"w": np.arange(6, dtype=np.float32).reshape(2, 3) * 2}
checkpoint.write(sys.argv[1] + "/m", new, shard_bytes=1)
checkpoint.update_state(sys.argv[1], sys.argv[1] + "/m")
print(Dying.left)
"""


def dies_at(folder, step):
    run = subprocess.run(
        [sys.executable, "-c", DYING, str(folder), str(step)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    if run.returncode == 0:
        return int(run.stdout)
    assert run.returncode == -signal.SIGKILL, run.stderr
    return None


def test_a_kill_at_every_step_leaves_a_whole_checkpoint(tmp_path):
    """Killed before step k of a save over an older one: either all of the old or all of the new."""
    total = 1000 - dies_at(tmp_path / "count", 1000)
    assert total > 12
    seen = set()
    for step in range(total):
        folder = tmp_path / str(step)
        old = {"w": OLD["w"]}
        checkpoint.write(str(folder / "m"), old)
        checkpoint.update_state(str(folder), str(folder / "m"))
        assert dies_at(folder, step) is None
        path = checkpoint.latest(str(folder))
        got = checkpoint.read(path)
        is_new = bool((got["w"] == old["w"] * 2).all())
        same(got, {"w": old["w"] * 2} if is_new else old)
        seen.add(is_new)
        checkpoint.write(str(folder / "m"), NEW)  # and the next save cleans up
        same(checkpoint.read(path), NEW)
        assert len(list(folder.glob("m.data-*"))) == 1 + len(list(folder.glob("m.data-*.tmp*")))
    assert seen == {True, False}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("step", range(9))
def test_a_failing_disk_is_typed_and_leaves_the_old_one(tmp_path, monkeypatch, error, step):
    prefix = str(tmp_path / "m")
    checkpoint.write(prefix, OLD)

    class Failing(files.Disk):
        left = step

        def _step(self):
            if not self.left:
                raise OSError(error, os.strerror(error))
            self.left -= 1

        def create(self, path):
            self._step()
            return super().create(path)

        def write(self, file, data):
            self._step()
            super().write(file, data)

        def sync(self, file):
            self._step()
            super().sync(file)

        def rename(self, source, target):
            self._step()
            super().rename(source, target)

    monkeypatch.setattr(files, "DISK", Failing())
    kind = {
        errno.ENOSPC: ResourceExhaustedError,
        errno.EACCES: PermissionDeniedError,
        errno.EIO: Exception,
    }[error]
    if step < 8:
        with pytest.raises(kind, match="the checkpoint before it stands"):
            checkpoint.write(prefix, NEW)
        same(checkpoint.read(prefix), OLD)
        assert len(list(tmp_path.iterdir())) == 2  # nothing is left lying about
    else:
        checkpoint.write(prefix, NEW)
        same(checkpoint.read(prefix), NEW)


def test_a_folder_that_fails_to_sync_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    """The index has its name by then: its payloads must not go."""
    prefix = str(tmp_path / "m")
    checkpoint.write(prefix, OLD)

    class Failing(files.Disk):
        syncs = 0

        def sync_folder(self, folder):
            self.syncs += 1
            if self.syncs == 2:  # that of the index
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "DISK", Failing())
    with pytest.raises(UnknownError):
        checkpoint.write(prefix, NEW)
    same(checkpoint.read(prefix), NEW)


def test_an_interrupted_save_leaves_nothing_lying_about(tmp_path, monkeypatch):
    class Interrupted(files.Disk):
        def rename(self, source, target):
            if target.endswith(".index"):
                raise KeyboardInterrupt
            super().rename(source, target)

    monkeypatch.setattr(files, "DISK", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(str(tmp_path / "m"), OLD)
    assert list(tmp_path.iterdir()) == []


# ---- the state file


def test_the_state_file_moves_with_its_folder(tmp_path):
    folder = tmp_path / 'a "b"'
    for name in ("m-1", "m-2"):
        checkpoint.write(str(folder / name), OLD)
    checkpoint.update_state(str(folder), str(folder / "m-2"), [str(folder / "m-1")])
    moved = tmp_path / "moved"
    folder.rename(moved)
    state = checkpoint.get_state(str(moved))
    assert state.model_checkpoint_path == str(moved / "m-2")
    assert state.all_model_checkpoint_paths == [str(moved / "m-1"), str(moved / "m-2")]
    assert checkpoint.latest(str(moved)) == str(moved / "m-2")
    checkpoint.delete(str(moved / "m-2"))
    assert checkpoint.latest(str(moved)) == str(moved / "m-1")


def test_no_state_file_is_none(tmp_path):
    assert checkpoint.get_state(str(tmp_path)) is None
    assert checkpoint.latest(str(tmp_path / "nowhere")) is None
