"""`graphflow inspect` and `graphflow whatif`, and the files that describe clusters."""

import json
from xml.etree import ElementTree

import pytest

import graphflow as tf
from graphflow.base.errors import InvalidArgumentError
from graphflow.cli import main
from graphflow.place.devices import Host
from graphflow.place.spec import cluster_of, read_cluster

PROGRAM = """
import sys
import tensorflow as tf

x = tf.placeholder(tf.float32, [2000, 2000])
ends = [tf.matmul(x, x * float(i)) for i in range(4)]
config = tf.ConfigProto(device_count={"CPU": 2})
with tf.Session(config=config) as session:
    session.run(tf.constant(1.0))
    print("placed", len(session.explain_placement(ends, {x: 0}).placement.used))
"""
YAML = """
hosts:
  - count: 2
    shares: {compute: 1.5}
    gpus: {count: 2, flops: 10T, bandwidth: 500 G, memory: 16GiB, launch: 5e-6}
links:
  - {from: /job:worker/task:0/gpu:0, to: /job:worker/task:0/gpu:1, alpha: 1e-6, beta: 100G}
network: {alpha: 30e-6, beta: 12GB/s}
starts: {process: 2e-3}
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    with tf.Graph().as_default():
        yield str(path)


@pytest.fixture
def cluster(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(YAML)
    return str(path)


def test_inspect_explains_the_largest_step(script, tmp_path, capsys):
    picture, trace = tmp_path / "gantt.svg", tmp_path / "trace.json"
    saved = ["--save", str(picture), "--save", str(trace)]
    assert main(["inspect", "--placement", *saved, script]) == 0
    told = capsys.readouterr().out
    assert "on 2 of 2 devices" in told
    assert "no plan can take less than" in told
    assert "MatMul" in told
    names = {e.tag.split("}")[1] for e in ElementTree.fromstring(picture.read_text()).iter()}
    assert names >= {"svg", "rect", "title"}
    rows = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    assert any(row["name"].startswith("MatMul") for row in rows)


def test_a_png_is_one(script, tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "gantt.png"
    assert main(["inspect", "--save", str(path), script]) == 0
    with image.open(path) as picture:
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 3


def test_whatif_predicts_gpus_that_are_not_there(script, cluster, capsys):
    assert main(["whatif", "--cluster", cluster, script]) == 0
    told = capsys.readouterr().out
    assert "/job:worker/replica:0/task:0/device:GPU:0" in told
    assert "times as fast" in told
    ratio = float(told.rsplit(":", 1)[1].split()[0])
    assert ratio > 5  # 10 TFLOP/s against 2 x 200 GFLOP/s


def test_a_program_that_runs_nothing_is_told(tmp_path, capsys):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    assert main(["inspect", str(path)]) == 2
    assert "ran no session" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "none.py")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_a_cluster_is_what_the_file_says(cluster):
    topology = read_cluster(cluster)
    assert len(topology.devices) == 6
    gpu = topology["/job:worker/replica:0/task:1/device:GPU:1"]
    assert (gpu.flops, gpu.bandwidth, gpu.memory, gpu.launch) == (1e13, 5e11, 16 * 2**30, 5e-6)
    a, b = (f"/job:worker/replica:0/task:{t}/device:GPU:0" for t in (0, 1))
    assert topology.link(a, b) == (link := topology.links[b, a])
    assert (link.alpha, link.beta) == (30e-6, 12e9)
    near = topology.link(a, a.replace("GPU:0", "GPU:1"))
    assert (near.alpha, near.beta) == (1e-6, 100e9)
    assert topology.starts.process == 2e-3
    assert dict(topology.hosts) == {f"worker{i}": Host(1.5, float("inf")) for i in (0, 1)}
    assert topology.machine(gpu.name) == "worker1"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "a mapping is needed"),
        ({}, "hosts: a list"),
        (
            {"hosts": [{"gpu": 1}]},
            r"hosts\[0\]: unknown: gpu; known: count, job, cpus, gpus, shares",
        ),
        ({"hosts": [{"shares": {"compute": 0.5}}]}, r"hosts\[0\].shares.compute: a number of at"),
        ({"hosts": [{"count": -1}]}, "whole number"),
        ({"hosts": [{"cpus": {"flops": "fast"}}]}, r"hosts\[0\].cpus.flops: a number"),
        ({"hosts": [{"cpus": {"flops": float("nan")}}]}, "a number"),
        ({"hosts": [{"cpus": {"memory": 0}}]}, "memory of"),
        ({"hosts": [{"cpus": 0}]}, "needs a device"),
        ({"hosts": [{"count": 10**9}]}, "more than 10000 devices"),
        ({"hosts": [{}], "network": {"alpha": 1}}, "beta"),
        ({"hosts": [{}], "links": [{"from": "/job:x", "to": "", "beta": 1}]}, "no device"),
    ],
)
def test_what_describes_no_cluster_is_refused(spec, message):
    with pytest.raises(InvalidArgumentError, match=message):
        cluster_of(spec)


@pytest.mark.parametrize(("name", "text"), [("c.json", "{"), ("c.yaml", "a: [")])
def test_a_file_that_does_not_parse_is_named(tmp_path, capsys, script, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert main(["whatif", "--cluster", str(path), script]) == 2
    assert name in capsys.readouterr().err
