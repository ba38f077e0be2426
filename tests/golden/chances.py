"""Programs of probability distributions; see `record.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.golden.programs import Programs, normal, with_gradients

PROGRAMS = Programs()
program = PROGRAMS.register
X = np.array([-1.5, -0.2, 0.3, 0.9, 2.5])


def _known(tf: Any, d: Any, x: Any, *names: str) -> list[Any]:
    found = [d.prob(x), d.log_prob(x), d.entropy(), d.batch_shape_tensor()]
    for name in names:
        method = getattr(d, name)
        found.append(method(x) if "cdf" in name or name == "survival_function" else method())
    return found


MOMENTS = ("mean", "variance", "stddev")


@program
def continuous(tf: Any) -> list[Any]:
    d = tf.distributions
    loc, scale = np.array([[0.0], [1.0]]), np.array([1.0, 0.5, 2.0, 1.5, 3.0])
    return [
        *_known(tf, d.Normal(loc, scale), X, *MOMENTS, "mode", "cdf", "survival_function"),
        *_known(tf, d.Laplace(loc, scale), X, *MOMENTS, "mode", "cdf"),
        *_known(tf, d.Uniform(loc - 1.0, scale + 1.0), X, *MOMENTS, "cdf"),
        *_known(tf, d.Exponential(scale), np.abs(X), *MOMENTS, "cdf"),  # its mode: NaN there
        *with_gradients(tf, lambda m, s: d.Normal(m, s).log_prob(X), loc[0], scale),
        d.kl_divergence(d.Normal(loc, scale), d.Normal(0.5 * scale, scale + 1.0)),
    ]


@program
def discrete(tf: Any) -> list[Any]:
    d = tf.distributions
    logits, probs = normal(3, 1), np.array([0.1, 0.5, 0.7])
    rows = normal(2, 4)
    p, q = d.Categorical(logits=rows), d.Categorical(probs=[[0.1, 0.2, 0.3, 0.4]])
    classes = np.array([[1, 0], [3, 3], [2, 1]], np.int32)
    return [
        *_known(tf, d.Bernoulli(logits), np.array([0, 1, 1], np.int32), *MOMENTS, "mode"),
        *_known(tf, d.Bernoulli(probs=probs), np.array([0, 1, 1], np.int32), *MOMENTS, "mode"),
        *_known(tf, p, classes, "mode"),
        q.log_prob(3),
        d.kl_divergence(d.Bernoulli(logits), d.Bernoulli(probs=probs)),
        d.kl_divergence(p, d.Categorical(logits=rows[::-1])),
    ]


@program
def drawn(tf: Any) -> list[Any]:
    d = tf.distributions
    loc, scale = np.array([0.0, 4.0], np.float32), np.array([[1.0], [3.0]], np.float32)
    return [
        d.Normal(loc, scale).sample([3], seed=1),
        d.Normal(0.0, 1.0).sample(seed=2),
        d.Uniform(loc, loc + 2.0).sample([2, 2], seed=3),
        d.Exponential(scale[:, 0]).sample(5, seed=4),
        d.Laplace(loc, 2.0).sample([4], seed=5),
        d.Bernoulli(probs=[0.2, 0.8]).sample([7], seed=6),
    ]
