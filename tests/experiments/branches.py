"""Params of 15 numbers, and a config with every branch, for tests of the optimizers."""

import jax.numpy as jnp
import numpy as np

from configs import defaults

MODES = ("plain", "dom", "bulk", "interpolated")
NUM_PARAMETERS, K = 15, 2


def tree(vectors):
    """Lay vectors [..., 15] out as params."""
    vectors = jnp.asarray(vectors, jnp.float32)
    lead = vectors.shape[:-1]
    return {"b": vectors[..., :3], "w": vectors[..., 3:].reshape(*lead, 3, 4)}


def flat(params):
    """Undo `tree`, in float64."""
    b, w = (np.asarray(params[name], np.float64) for name in ("b", "w"))
    return np.concatenate([b, w.reshape(*w.shape[:-2], 12)], axis=-1)


def make_config(**optimizer_fields):
    config = defaults.get_config()
    config.steps = 20
    config.optimizer.update(optimizer_fields)
    config.modes = MODES
    config.projection.dom, config.projection.bulk = 0.3, 0.7
    config.switch.step = 1  # projects from the first update on
    config.subspace.k = K
    return config
