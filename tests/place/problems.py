"""Problems made by hand and at random."""

import random
from dataclasses import replace

from graphflow.base.devices import local
from graphflow.place.devices import Device, Link, Topology
from graphflow.place.problem import Problem

UNIT = Link(1.0, 1.0)


def topology(speeds, link=UNIT, memory=1e9):
    """CPUs, with one link between each two of them."""
    names = [local("CPU", i) for i in range(len(speeds))]
    devices = tuple([Device(n, s, 1e12, memory, 0.0) for n, s in zip(names, speeds, strict=True)])
    links = {(a, b): link for a in names for b in names if a != b}
    return Topology(devices, links)


def problem(work, edges, speeds=(1.0, 1.0), link=UNIT, sizes=None, allowed=None):
    """Tasks of the given work; an edge (a, b) needs the value that a makes.

    Args:
      sizes: task -> bytes of its value, 0 by default.
      allowed: task -> devices, all by default; each task is its own group.
    """
    n = len(work)
    sizes = sizes or {}
    makers = sorted({a for a, _ in edges})
    number = {a: i for i, a in enumerate(makers)}
    needs = [[number[a] for a, b in edges if b == task] for task in range(n)]
    everywhere = list(range(len(speeds)))
    return Problem(
        topology(speeds, link),
        [f"t{i}" for i in range(n)],
        [[w / s for s in speeds] for w in work],
        needs,
        makers,
        [float(sizes.get(a, 0)) for a in makers],
        list(range(n)),
        [list((allowed or {}).get(i, everywhere)) for i in range(n)],
        {},
    )


def random_problem(seed, tasks=12, devices=2):
    """A random DAG whose communication costs about as much as its work."""
    rng = random.Random(seed)
    work = [rng.uniform(1, 10) for _ in range(tasks)]
    edges = [
        (a, b)
        for b in range(tasks)
        for a in sorted(rng.sample(range(b), min(b, rng.choice((0, 1, 1, 2)))))
    ]
    sizes = {a: rng.uniform(0, 8) for a in range(tasks)}
    speeds = [rng.choice((1.0, 1.0, 2.0)) for _ in range(devices)]
    return problem(work, edges, speeds, Link(0.1, 1.0), sizes)


def limited_problem(seed, tasks=None, devices=None):
    """A random DAG of 10 to 16 tasks on 2 or 3 devices whose memory does not hold all on one.

    Two tasks of five keep parameters; each device has room for 1.25 of its share of them, and
    for the six largest values.
    """
    rng = random.Random(f"limited {seed}")
    tasks = tasks or rng.randint(10, 16)
    devices = devices or rng.choice((2, 3))
    base = random_problem(rng.random(), tasks, devices)
    resident = {t: rng.uniform(5, 20) for t in range(tasks) if rng.random() < 0.4}
    need = sum(resident.values())
    live = sum(sorted(base.sizes)[-6:])
    largest = max(resident.values(), default=0.0)
    room = max(1.25 * need / devices, largest) + live
    cpus = tuple([replace(d, memory=room) for d in base.topology.devices])
    limited = replace(base.topology, devices=cpus)
    return replace(base, topology=limited, resident=resident)
