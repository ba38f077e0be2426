"""Do what cluster/Dockerfile does, where there is no Docker.

    python .ci/image.py

Its COPY lines go to an empty folder, its pip lines to a fresh virtual environment, with its
arguments and variables; what installs Debian's packages and makes users is left out.  Then the
job of cluster/kuberay/rayjob.yaml runs there, on a Ray of its own, with few steps.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("apt-get", "useradd", "rm -rf /var")  # what needs the image itself


def instructions(text: str) -> list[tuple[str, str]]:
    """(word, arguments) of each instruction."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [
        (word, rest.strip())
        for word, _, rest in (x.partition(" ") for x in joined.split("\n") if x)
    ]


def build(image: Path, environment: dict[str, str]) -> None:
    """Carry the instructions out below a folder that stands for "/"."""
    here = image
    for word, rest in instructions((ROOT / "cluster" / "Dockerfile").read_text()):
        if word == "ARG":
            name, _, default = rest.partition("=")
            environment.setdefault(name, default)
        elif word == "ENV":
            environment |= dict(each.split("=", 1) for each in shlex.split(rest))
        elif word == "WORKDIR":
            here = image / rest.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = [w for w in shlex.split(rest) if not w.startswith("--")]
            copy(sources, image / target.lstrip("/") if target.startswith("/") else here / target,
                 target.endswith("/"))  # fmt: skip
        elif word == "RUN":
            for command in rest.split("&&"):
                if not command.strip().startswith(ELSEWHERE):
                    ours = command.replace("/src", str(image / "src"))
                    print("+", ours.strip(), flush=True)
                    subprocess.run(ours, shell=True, check=True, env=environment)
        elif word not in ("FROM", "USER"):
            raise SystemExit(f"cluster/Dockerfile: {word} is not known here")


def copy(sources: list[str], target: Path, into: bool) -> None:
    """COPY: files go into a folder, and of folders, what is in them."""
    for source in sources:
        if (ROOT / source).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, target, dirs_exist_ok=True, ignore=unwanted)
        else:
            target.mkdir(parents=True, exist_ok=True) if into else target.parent.mkdir()
            shutil.copy(ROOT / source, target)


def job(image: Path) -> list[str]:
    """The command of rayjob.yaml, on a Ray of its own."""
    text = (ROOT / "cluster" / "kuberay" / "rayjob.yaml").read_text()
    (entrypoint,) = re.findall(r"entrypoint: >-\n((?: {4}.*\n)+)", text)
    words = shlex.split(entrypoint.replace("--address auto", ""))
    words[words.index("--steps") + 1] = "20"
    return [w.replace("/home/", f"{image}/home/") for w in words]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        image, python = Path(folder, "image"), Path(folder, "python")
        venv.create(python, with_pip=True)
        keep = ("HOME", "http_proxy", "https_proxy", "no_proxy")
        passed = {
            n: v for n, v in os.environ.items() if n in keep or n.startswith(("PIP_", "SSL_"))
        }
        environment = {"PATH": f"{python}/bin:/usr/bin:/bin", **passed}
        build(image, environment)
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(24)  # KubeRay's
        command = job(image)
        print("+", shlex.join(command), flush=True)
        done = subprocess.run(command, env=environment, cwd=image / "home" / "ray", timeout=300)
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
