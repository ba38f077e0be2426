"""The files of cluster/: valid by the schemas there are, and true to each other and the command.

Ray's own schema ships in its wheel, Kubernetes' in one of PyPI (extra `clustercheck`).  KubeRay's
definitions are in no package of PyPI or npm: what they say of the fields that we use stands here,
and any other field fails.  (The files were also checked against the whole definitions of KubeRay's
main branch of August 2026, with unknown fields refused.)  `.ci/image.py` does what the Dockerfile
says, without Docker.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from graphflow.cli import _parser

CLUSTER = Path(__file__).parents[1] / "cluster"
TEXT, WHOLE, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


def message(required: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def several(item: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = message(
    "name image",
    name=TEXT,
    image=TEXT,
    env=several(message("name", name=TEXT, value=TEXT)),
    ports=several(message("containerPort", name=TEXT, containerPort=WHOLE)),
    resources=message(requests=TEXTS, limits=TEXTS),
    volumeMounts=several(message("name mountPath", name=TEXT, mountPath=TEXT)),
)
VOLUME = message("name", name=TEXT, emptyDir=message(medium=TEXT, sizeLimit=TEXT))
TOLERATION = message(key=TEXT, operator={"enum": ["Exists", "Equal"]}, effect=TEXT, value=TEXT)
TEMPLATE = message(
    "spec",
    spec=message(
        "containers",
        containers=several(CONTAINER),
        volumes=several(VOLUME),
        tolerations=several(TOLERATION),
    ),
)
CLUSTER_SPEC = message(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=message(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    headGroupSpec=message("template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=several(
        message(
            "groupName maxReplicas minReplicas template",
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            rayStartParams=TEXTS,
            template=TEMPLATE,
        )
    ),
)
JOB_SPEC = message(
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=WHOLE,
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    runtimeEnvYAML=TEXT,
    rayClusterSpec=CLUSTER_SPEC,
)


def resource(kind: str, spec: Any) -> dict[str, Any]:
    return message(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=message("name", name=TEXT),
        spec=spec,
    )


def load(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text())


def test_ray_cluster_is_valid_by_rays_schema():
    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    schema = Path(found.origin).parent / "autoscaler" / "ray-schema.json"
    jsonschema.validate(load("ray-cluster.yaml"), json.loads(schema.read_text()))


def test_all_say_how_soon_losses_are_noticed():
    from graphflow.distribute.ray_transport import TUNED

    wanted = {f"RAY_{name}": str(value) for name, value in TUNED.items()}
    alone = {name: value for name, value in wanted.items() if "kill" in name}  # not of the head
    *_, head = load("ray-cluster.yaml")["head_start_ray_commands"]
    *_, worker = load("ray-cluster.yaml")["worker_start_ray_commands"]
    assert dict(re.findall(r"(RAY_\w+_m\w+|RAY_\w+_threshold)=(\d+)", head)) == wanted
    assert dict(re.findall(r"(RAY_\w+)=(\d+)", worker)) == alone
    cluster = load("kuberay/raycluster.yaml")["spec"]
    job = load("kuberay/rayjob.yaml")["spec"]["rayClusterSpec"]
    for spec in (cluster, job):
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            assert {one["name"]: one["value"] for one in container["env"]} == wanted


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("kuberay/raycluster.yaml", resource("RayCluster", CLUSTER_SPEC)),
        ("kuberay/rayjob.yaml", resource("RayJob", JOB_SPEC)),
    ],
)
def test_kuberay_resources_are_valid(name, schema):
    jsonschema.validate(load(name), schema)


def groups() -> list[dict[str, Any]]:
    """Of all machines that KubeRay makes."""
    specs = [load("kuberay/raycluster.yaml")["spec"], load("kuberay/rayjob.yaml")["spec"]]
    clusters = [specs[0], specs[1]["rayClusterSpec"]]
    return [g for c in clusters for g in (c["headGroupSpec"], *c["workerGroupSpecs"])]


@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_pods_are_valid_by_kubernetes_schemas(version):
    kubernetes = pytest.importorskip("kubernetes_validate", reason="extra clustercheck")
    for group in groups():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}}
        kubernetes.validate(pod | {"template": group["template"]}, version, strict=True)
        wrong = json.loads(json.dumps(group["template"]))
        wrong["spec"]["containers"][0]["enw"] = []
        with pytest.raises(kubernetes.ValidationError, match="enw"):
            kubernetes.validate(pod | {"template": wrong}, version, strict=True)


def test_each_volume_is_there_that_is_mounted():
    for group in groups():
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        mounted = [mount["name"] for mount in container.get("volumeMounts", ())]
        assert mounted == [volume["name"] for volume in spec.get("volumes", ())]


def test_the_image_is_as_hadolint_wants_it():
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("extra clustercheck")
    done = subprocess.run(
        [hadolint, "--no-color", CLUSTER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_image_has_what_the_project_says():
    """A Python that it allows, extras that it has, a Ray that it takes, and the command."""
    project = tomllib.loads((CLUSTER.parent / "pyproject.toml").read_text())["project"]
    text = (CLUSTER / "Dockerfile").read_text()

    def version(pattern: str, where: str) -> tuple[int, ...]:
        return tuple(map(int, re.search(pattern, where)[1].split(".")))

    assert version(r"FROM python:([\d.]+)", text) >= version(
        r">=([\d.]+)", project["requires-python"]
    )
    (wanted,) = [d for d in project["dependencies"] if d.startswith("ray>=")]
    assert version(r"ARG RAY=([\d.]+)", text) >= version(r">=([\d.]+)", wanted)
    for extras in re.findall(r"EXTRAS=(\S+)", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])
    job = load("kuberay/rayjob.yaml")["spec"]
    assert shlex.split(job["entrypoint"])[0] in project["scripts"]


def test_all_files_name_the_same_ray_and_image():
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    version = re.search(r"ARG RAY=(\S+)", dockerfile)[1]
    image = re.search(r"-t (\S+):latest \.", dockerfile)[1]
    specs = [load("kuberay/raycluster.yaml")["spec"], load("kuberay/rayjob.yaml")["spec"]]
    assert {specs[0]["rayVersion"], specs[1]["rayClusterSpec"]["rayVersion"]} == {version}
    for group in groups():
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"].rpartition(":")[0] == image
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert load("ray-cluster.yaml")["docker"]["image"].rpartition(":")[0] == image


def test_a_gpu_worker_has_one_gpu():
    (gpu,) = [g for g in load("kuberay/raycluster.yaml")["spec"]["workerGroupSpecs"]
              if g["groupName"] == "gpu"]  # fmt: skip
    (container,) = gpu["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_jobs_command_is_one_and_its_cluster_has_room():
    spec = load("kuberay/rayjob.yaml")["spec"]
    command, *words = shlex.split(spec["entrypoint"])
    options = _parser().parse_args(words)
    assert (command, options.command, options.address) == ("graphflow", "run", "auto")
    script = options.script.removeprefix("/home/ray/")
    assert (CLUSTER.parent / script).is_file()
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] >= options.workers + options.ps


def test_the_image_copies_what_is_there():
    for line in re.findall(r"^COPY (?:--\S+ )*(.+)$", (CLUSTER / "Dockerfile").read_text(), re.M):
        *sources, _ = line.split()
        assert all((CLUSTER.parent / s).exists() for s in sources), line
