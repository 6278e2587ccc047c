"""A quadratic to train on with a tracker, and a curvature that counts its products.

Products are counted as *executed*, by a callback in the product itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dominant

K = 2
TOL = 1e-6
SPECTRUM = np.array([9.0, 5.0, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1], np.float32)
PARAMS = {"a": jnp.linspace(-1, 1, 6).reshape(2, 3), "b": jnp.array([0.5, -0.3])}
DATA = jnp.asarray(SPECTRUM)


def flat(tree):
    return jnp.concatenate([tree["a"].ravel(), tree["b"]])


def loss_fn(params, spectrum):
    return 0.5 * jnp.sum(spectrum * flat(params) ** 2)


class Counter:
    """A curvature that counts the products executed on the device."""

    def __init__(self):
        self.products = 0

    def _add(self):
        self.products += 1

    def __call__(self, params, data):
        product = dominant.hessian(loss_fn)(params, data)

        def matvec(v):
            jax.debug.callback(self._add)
            return product(v)

        return matvec

    def read(self):
        jax.effects_barrier()
        return self.products


def train(tx, num_steps, params=PARAMS, data=DATA, **extra):
    """Run jitted steps; return the params and the states after each."""

    @jax.jit
    def step(params, state, data):
        gradients = jax.grad(loss_fn)(params, data)
        updates, state = tx.update(
            gradients, state, params, curvature_data=data, **extra
        )
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    states = []
    for _ in range(num_steps):
        params, state = step(params, state, data)
        states.append(state)
    assert step._cache_size() == 1, "the step was compiled more than once"
    return params, states


def expected_bulk_sgd(num_steps, start=PARAMS, spectrum=SPECTRUM):
    """Where `bulk_sgd` leads, [8]: the top K coordinates stay, the others decay."""
    start, spectrum = np.asarray(flat(start), np.float64), np.asarray(spectrum)
    decayed = start * (1 - 0.1 * spectrum.astype(np.float64)) ** num_steps
    return np.where(spectrum >= np.sort(spectrum)[-K], start, decayed)


def types(state):
    def describe(leaf):
        return leaf.shape, leaf.dtype, leaf.weak_type

    leaves, structure = jax.tree.flatten(state)
    return structure, [describe(leaf) for leaf in leaves]


def bulk_sgd(curvature, refresh, **options):
    inner = optax.chain(optax.sgd(0.1), dominant.bulk_project())
    return dominant.track_subspace(
        inner, curvature, K, refresh=refresh, tol=TOL, **options
    )
