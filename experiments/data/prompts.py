"""Prompts of in-context regression, of which fresh ones can be drawn.

A prompt is x_1 .. x_n, x_{n+1} in R^d and y_i = <w, x_i>, i = 1 .. n, with its own
w ~ N(0, I_d); the label is <w, x_{n+1}> (Ahn et al., 2024, "Linear attention is (maybe)
all you need", arXiv:2310.01082). Nonlinear prompts have y_i = <w, phi(x_i)>, with one
frozen random network phi from R^d to R^d of ten ReLU units.
"""

import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.fixed import TARGET, TEST, TRAIN, fixed_key
from experiments.data.prepared import Folder
from experiments.data.splits import Splits

_NUM_PROMPTS = 1000
_SHAPE, _VARIANCE = 0.1, 10.0  # of |x|^2 ~ Gamma(shape, scale), shape scale^2 = 10

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def _gaussian(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(key, shape)


def _sphere(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return points on the unit sphere."""
    x = jax.random.normal(key, shape)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def log_gammas(key: jax.Array, a: float, shape: tuple[int, ...]) -> jax.Array:
    """Return logarithms of Gamma(a, 1) variables, 0 < a < 1.

    By rejection (Ahrens and Dieter 1974, GS), all side by side: on a CPU
    `jax.random.loggamma` draws one after the other, and a step would be one of drawing.
    """
    below_one = 1 / (1 + a / math.e)  # the share of proposals there

    def is_lacking(state: tuple) -> jax.Array:
        return ~jnp.all(state[1])

    def propose(state: tuple) -> tuple:
        key, accepted, found = state
        key, of_side, of_both = jax.random.split(key, 3)
        is_below = jax.random.uniform(of_side, shape) < below_one
        first, second = jax.random.exponential(of_both, (2, *shape))
        logs = jnp.where(is_below, -first / a, jnp.log1p(first))
        bounds = jnp.where(is_below, jnp.exp(logs), (1 - a) * logs)
        return key, accepted | (second >= bounds), jnp.where(accepted, found, logs)

    none = key, jnp.zeros(shape, bool), jnp.zeros(shape)
    return jax.lax.while_loop(is_lacking, propose, none)[2]


def _gamma(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return sqrt(Gamma(0.1, 10)) times a point on the unit sphere: heavy tails.

    The variance of |x|^2, 10, is that of N(0, I_5).
    """
    of_norm, of_direction = jax.random.split(key)
    # By its logarithm: a gamma of such a shape underflows now and then.
    log_gamma = log_gammas(of_norm, _SHAPE, shape[:-1])
    log_scale = 0.5 * math.log(_VARIANCE / _SHAPE)
    norms = jnp.exp((log_gamma + log_scale) / 2)
    return norms[..., None] * _sphere(of_direction, shape)


COVARIATES: Mapping[str, Draw] = {
    "gaussian": _gaussian,
    "sphere": _sphere,
    "gamma": _gamma,
}


_NUM_UNITS = 10

Features = Callable[[jax.Array], jax.Array]


def identity(x: jax.Array) -> jax.Array:
    """Return phi(x) = x, of linear prompts."""
    return x


def random_relu_features(dimension: int) -> Features:
    """Return phi(x) = relu(x A) B, the same in all runs, with E |phi(x)|^2 near |x|^2.

    A is [d, 10] with entries N(0, 2 / d) and B [10, d] with entries N(0, 1 / 10), for
    |x|^2 = d.
    """
    of_first, of_second = jax.random.split(fixed_key(TARGET))
    first = jax.random.normal(of_first, (dimension, _NUM_UNITS))
    second = jax.random.normal(of_second, (_NUM_UNITS, dimension))
    first, second = first * (2 / dimension) ** 0.5, second / _NUM_UNITS**0.5
    return lambda x: jax.nn.relu(x @ first) @ second


def draw(
    covariates: str,
    dimension: int,
    context: int,
    key: jax.Array,
    count: int,
    features: Features = identity,
) -> dict[str, dict[str, jax.Array] | jax.Array]:
    """Return `count` prompts and their labels, y = <w, features(x)>.

    inputs: x [count, n, d], y [count, n], query [count, d]; labels [count, 1].
    """
    of_x, of_w = jax.random.split(key)
    x = COVARIATES[covariates](of_x, (count, context + 1, dimension))
    w = jax.random.normal(of_w, (count, dimension))
    y = jnp.einsum("bid,bd->bi", features(x), w)
    inputs = {"x": x[:, :-1], "y": y[:, :-1], "query": x[:, -1]}
    return {"inputs": inputs, "labels": y[:, -1:]}


def load_prompts(
    num_train: int | None,
    data_dir: Folder,
    *,
    dimension: int = 5,
    context: int = 20,
    covariates: str = "gaussian",
    num_test: int = _NUM_PROMPTS,
    nonlinear: bool = False,
) -> Splits:
    """Return prompts with their labels, all of them from one distribution.

    Args:
      num_train: prompts of the fixed training set; None: 1,000.
      data_dir: not read.
      dimension: d.
      context: n, the pairs (x, y) before the query.
      covariates: "gaussian", N(0, I); "sphere", uniform on the unit sphere; or "gamma",
        sqrt(Gamma(0.1, 10)) times the latter.
      num_test: prompts of the test set.
      nonlinear: whether labels are linear in `random_relu_features` of x.

    Raises:
      ValueError: if an option is out of range or unknown.
    """
    del data_dir
    if covariates not in COVARIATES:
        known = ", ".join(sorted(COVARIATES))
        raise ValueError(f"unknown task.covariates {covariates!r}; known ones: {known}")
    num_train = _NUM_PROMPTS if num_train is None else num_train
    if min(num_train, num_test, dimension, context) < 1:
        raise ValueError("prompts need sizes of at least 1.")
    features = random_relu_features(dimension) if nonlinear else identity
    sample = functools.partial(draw, covariates, dimension, context, features=features)

    def prompts(key: int, count: int) -> dict:
        return jax.tree.map(np.asarray, sample(fixed_key(key), count))

    return Splits(
        train=prompts(TRAIN, num_train),
        test=prompts(TEST, num_test),
        num_classes=1,
        sample=sample,
    )
