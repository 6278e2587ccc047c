"""Quadratics with prescribed eigenvalues, and training loops on them.

Where a closed form is an expectation, the allowed error is a multiple of the sample's
own standard error.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dominant
from tests.dominant import zoo

STANDARD_ERRORS = 4  # of a Monte Carlo mean: passed by chance with 1 - 6e-5
EPS = np.finfo(np.float64).eps


def assert_mean(samples, expected):
    samples = np.asarray(samples, np.float64)
    standard_error = np.std(samples, axis=0) / np.sqrt(len(samples))
    error = np.abs(np.mean(samples, axis=0) - expected)
    assert np.all(error <= STANDARD_ERRORS * standard_error)
    # The test can tell the closed form from one that is 10% off
    assert np.all(STANDARD_ERRORS * standard_error <= 0.1 * np.abs(expected))


def assert_ratio_of_means(numerators, denominators, expected):
    """By the delta method."""
    x, y = (np.asarray(v, np.float64) for v in (numerators, denominators))
    ratio = np.mean(x, axis=0) / np.mean(y, axis=0)
    spread = np.std(x - ratio * y, axis=0) / np.mean(y, axis=0)
    standard_error = spread / np.sqrt(len(x))
    assert np.all(np.abs(ratio - expected) <= STANDARD_ERRORS * standard_error)
    assert np.all(STANDARD_ERRORS * standard_error <= 0.1 * np.abs(expected))


# --- quadratics, and the loop ---

N = 12
SHARP, FLAT, RATE, K = 20.0, 0.5, 0.05, 3
TWO_LEVELS = [SHARP] * K + [FLAT] * (N - K)


def tree_like(dtype):
    vectors = (jnp.zeros(5, dtype), jnp.zeros((), dtype))
    return {"w": jnp.zeros((2, 3), dtype), "b": vectors}


def quadratic_loss(matrix):
    """Half theta^T H theta, with a linear term in each example for the noise."""

    def loss_fn(params, data):
        theta = zoo.flatten(params)
        product = jnp.matmul(matrix, theta, precision="highest")
        tilt = jnp.matmul(data["noise"], theta, precision="highest")
        return jnp.vdot(theta, product) / 2 + jnp.mean(tilt)

    return loss_fn


@functools.partial(jax.jit, static_argnames=("k", "tol"))
def dominant_space(matrix, data, *, k, tol):
    """The dominant space of a quadratic, by the library."""
    like = tree_like(matrix.dtype)
    matvec = dominant.hessian(quadratic_loss(matrix))(like, data)
    return dominant.top_eigenspace(matvec, like, k, tol=tol)


class Quadratic:
    """A quadratic loss with prescribed eigenvalues and random eigenvectors."""

    def __init__(self, eigenvalues, k, dtype=np.float64, seed=0):
        self.rows = zoo.random_rows(N, N, seed)  # eigenvectors, in descending order
        self.eigenvalues = np.asarray(eigenvalues, np.float64)
        self.k, self.dtype = k, dtype
        matrix = (self.rows.T * self.eigenvalues) @ self.rows
        self.matrix = jnp.asarray((matrix + matrix.T) / 2, dtype)
        self.like = tree_like(dtype)
        self.loss_fn = quadratic_loss(self.matrix)

    def data(self, noise=None):
        """One example, whose noise is given in eigenvector coordinates."""
        noise = jnp.zeros(N, self.dtype) if noise is None else noise
        return {"noise": (noise @ jnp.asarray(self.rows, self.dtype))[None]}

    def subspace(self, tol):
        return dominant_space(self.matrix, self.data(), k=self.k, tol=tol)

    def params(self, coordinates):
        return zoo.unflatten(
            jnp.asarray(coordinates @ self.rows, self.dtype), self.like
        )

    def coordinates(self, tree):
        """Eigenvector coordinates of a tree."""
        rows = jnp.asarray(self.rows, self.dtype)
        return jnp.matmul(rows, zoo.flatten(tree), precision="highest")


def simulate(tx, gradient, params, subspace, inputs, measure=lambda *_: ()):
    """Scan an optimizer; return the last params and the measurements of each step."""
    tx = optax.with_extra_args_support(tx)

    def step(carry, x):
        params, state = carry
        updates, state = tx.update(
            gradient(params, x), state, params, subspace=subspace
        )
        measured = measure(params, updates)
        return (optax.apply_updates(params, updates), state), measured

    (last, _), measured = jax.lax.scan(step, (params, tx.init(params)), inputs)
    return last, measured


def simulate_seeds(tx, problem, start, subspace, *, steps, seeds, noise=1.0, last=True):
    """SGD noise N(0, noise^2) in each eigenvector coordinate, for many seeds.

    Returns eigenvector coordinates of the last parameters and of the step from there.
    """

    def gradient(params, key):
        xi = jnp.asarray(noise * jax.random.normal(key, (N,), problem.dtype))
        return jax.grad(problem.loss_fn)(params, problem.data(xi))

    def run(key, start, subspace):
        keys = jax.random.split(key, steps)
        params, (before, step) = simulate(
            tx,
            gradient,
            start,
            subspace,
            keys,
            lambda params, updates: (
                problem.coordinates(params),
                problem.coordinates(updates),
            ),
        )
        if last:
            before, step = before[-1], step[-1]
        return problem.coordinates(params), before, step

    keys = jax.random.split(jax.random.key(7), seeds)
    batched = jax.jit(jax.vmap(run, in_axes=(0, None, None)))
    return tuple(np.asarray(x) for x in batched(keys, start, subspace))


def exact_split(dtype):
    """Three sharp and five flat coordinates, and the exact dominant space."""
    like = {"flat": jnp.zeros(5, dtype), "sharp": jnp.zeros(3, dtype)}
    rows = np.concatenate([np.zeros((3, 5)), np.eye(3)], axis=1)
    return like, zoo.subspace(rows, like)
