"""Gaussian mixtures: data sets with a theory, of which fresh examples can be drawn.

An example is Y = mu_a + Z, its component a uniform, Z ~ N(0, I_d / snr). Rotations of
the inputs change nothing here, so that the means are along the first coordinates.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.fixed import TEST, TRAIN, fixed_key
from experiments.data.prepared import Folder
from experiments.data.splits import Mixture, Splits

_NUM_EXAMPLES = 10_000
_GENERAL_SEED = 0
_GENERAL_SPREAD = 0.5


def draw(mixture: Mixture, key: jax.Array, count: int) -> dict[str, jax.Array]:
    """Return `count` examples: inputs [count, d] float32, labels [count] int32."""
    of_component, of_noise = jax.random.split(key)
    num, dimension = mixture.means.shape
    component = jax.random.randint(of_component, (count,), 0, num)
    noise = jax.random.normal(of_noise, (count, dimension))
    inputs = jnp.asarray(mixture.means)[component] + noise / np.sqrt(mixture.snr)
    return {"inputs": inputs, "labels": jnp.asarray(mixture.labels)[component]}


def load_gaussian_mixture(
    num_train: int | None,
    data_dir: Folder,
    *,
    dimension: int = 500,
    snr: float = 10.0,
    num_components: int = 10,
    means: str = "orthonormal",
    num_test: int = _NUM_EXAMPLES,
) -> Splits:
    """Components that are a class each (Ben Arous et al., 2023, Sec. 3).

    Args:
      num_train: examples of the fixed training set; None: 10,000.
      data_dir: not read.
      dimension: d.
      snr: the signal-to-noise ratio.
      num_components: k, at most d.
      means: "orthonormal", or "general": unit vectors with random angles between them,
        linearly independent, always the same.
      num_test: examples of the test set.

    Raises:
      ValueError: if an option is out of range or `means` is unknown.
    """
    del data_dir
    _require(1 < num_components <= dimension, "num_components in 2 .. dimension")
    if means not in MEANS:
        raise ValueError(
            f"unknown task.means {means!r}; known ones: {', '.join(sorted(MEANS))}"
        )
    rows = np.zeros((num_components, dimension), np.float32)
    rows[:, :num_components] = MEANS[means](num_components)
    labels = np.arange(num_components, dtype=np.int32)
    return _splits(Mixture(rows, labels, snr), num_train, num_test)


def load_xor_mixture(
    num_train: int | None,
    data_dir: Folder,
    *,
    dimension: int = 500,
    snr: float = 100.0,
    num_test: int = _NUM_EXAMPLES,
) -> Splits:
    """Four components at mu, -mu (class 1), nu, -nu (class 0), mu and nu orthonormal.

    No linear classifier can tell the classes (Ben Arous et al., 2022).

    Args:
      num_train: examples of the fixed training set; None: 10,000.
      data_dir: not read.
      dimension: d, at least 2.
      snr: the signal-to-noise ratio.
      num_test: examples of the test set.

    Raises:
      ValueError: if an option is out of range.
    """
    del data_dir
    _require(dimension >= 2, "a dimension of at least 2")
    means = np.zeros((4, dimension), np.float32)
    means[:2, 0] = 1, -1
    means[2:, 1] = 1, -1
    labels = np.array([1, 1, 0, 0], np.int32)
    return _splits(Mixture(means, labels, snr), num_train, num_test)


def _splits(mixture: Mixture, num_train: int | None, num_test: int) -> Splits:
    num_train = _NUM_EXAMPLES if num_train is None else num_train
    _require(mixture.snr > 0, "an snr above 0")
    _require(num_train > 0 and num_test > 0, "at least one example of each kind")
    sample = functools.partial(draw, mixture)

    def examples(key: int, count: int) -> dict[str, np.ndarray]:
        return jax.tree.map(np.asarray, sample(fixed_key(key), count))

    return Splits(
        train=examples(TRAIN, num_train),
        test=examples(TEST, num_test),
        num_classes=int(mixture.labels.max()) + 1,
        sample=sample,
        mixture=mixture,
    )


def _require(condition: bool, needed: str) -> None:
    if not condition:
        raise ValueError(f"a mixture needs {needed}.")


def _orthonormal(count: int) -> np.ndarray:
    return np.eye(count)


def _general(count: int) -> np.ndarray:
    rng = np.random.default_rng(_GENERAL_SEED)
    spread = rng.normal(size=(count, count)) * _GENERAL_SPREAD / np.sqrt(count)
    rows = np.eye(count) + spread
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


MEANS: Mapping[str, Callable[[int], np.ndarray]] = {
    "orthonormal": _orthonormal,
    "general": _general,
}
"""The k means' first k coordinates, [k, k], by name."""
