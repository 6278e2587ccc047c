"""Random subspaces and vectors of the zoo's tree."""

import jax.numpy as jnp
import numpy as np

from tests.dominant import zoo

ROUNDING = 10  # multiples of eps
N, K = zoo.SMALL, 4


def subspace_of(dtype, k=K, n=N, seed=0, **fields):
    return zoo.subspace(zoo.random_rows(k, n, seed), zoo.like(n, dtype), **fields)


def vector_tree(dtype, seed=0, n=N):
    vector = np.random.default_rng(seed).standard_normal(n)
    return zoo.to_tree(vector, zoo.like(n, dtype))


def eps_of(dtype):
    return float(jnp.finfo(dtype).eps)
