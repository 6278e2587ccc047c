"""Random keys of the fixed sets of synthetic data.

Runs draw from the keys of their seeds, and a draw with one of those would share its
numbers with a run's initial parameters.
"""

import jax

TRAIN, TEST, TARGET = 0, 1, 2

_STREAM = 2**31 - 1


def fixed_key(which: int) -> jax.Array:
    """Return the key of the training set, the test set or the target, of all runs."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), _STREAM), which)
