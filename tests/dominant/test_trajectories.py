"""Projected training on a small network against dense linear algebra at each step.

The references use `jax.hessian` and `eigh` in float64 at every step, and optimizers
written out in NumPy; nothing of the library and nothing of optax is in them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import dominant
from tests.dominant import networks, zoo

STEPS = 30
K = 3
BATCH = 4
LEARNING_RATE = {"sgd": 0.1, "momentum": 0.05, "adam": 0.01}
BASE = {
    "sgd": lambda: optax.sgd(LEARNING_RATE["sgd"]),
    "momentum": lambda: optax.sgd(LEARNING_RATE["momentum"], momentum=0.9),
    "adam": lambda: optax.adam(LEARNING_RATE["adam"]),
}
PROJECT = {"dom": dominant.dom_project, "bulk": dominant.bulk_project}


def problem():
    return networks.network("tanh-softmax", num_examples=20)


def batch_of(data, step):
    """The mini-batch of a step: consecutive examples, around and around."""
    rows = (BATCH * step + np.arange(BATCH)) % len(data["inputs"])
    return jax.tree.map(lambda leaf: leaf[rows], data)


# --- the dense reference ---


def numpy_optimizer(name):
    """The update of SGD, heavy ball or Adam, as a function of the gradient."""
    rate = LEARNING_RATE[name]
    memory = {"count": 0, "m": 0.0, "v": 0.0}

    def update(gradient):
        memory["count"] += 1
        if name == "sgd":
            return -rate * gradient
        if name == "momentum":
            memory["m"] = 0.9 * memory["m"] + gradient
            return -rate * memory["m"]
        memory["m"] = 0.9 * memory["m"] + 0.1 * gradient
        memory["v"] = 0.999 * memory["v"] + 0.001 * gradient**2
        m = memory["m"] / (1 - 0.9 ** memory["count"])
        v = memory["v"] / (1 - 0.999 ** memory["count"])
        return -rate * m / (np.sqrt(v) + 1e-8)

    return update


@functools.cache
def dense_functions():
    """The first parameters [n], the data, and the loss' gradient and Hessian."""
    network = problem()
    data = zoo.cast(network.data, jnp.float64)
    theta, unravel = ravel_pytree(zoo.cast(network.params, jnp.float64))

    def flat_loss(p, data):
        return network.loss_fn(unravel(p), data)

    gradient, hessian = jax.jit(jax.grad(flat_loss)), jax.jit(jax.hessian(flat_loss))
    return np.asarray(theta), data, gradient, hessian


@functools.cache
def dense_trajectory(base, side, position):
    """Parameters [T + 1, n], updates [T, n] and dominant spaces [T, k, n]."""
    with jax.enable_x64(True):
        theta, data, gradient, hessian = dense_functions()
        optimizer = numpy_optimizer(base)
        thetas, updates, spaces, gaps = [theta], [], [], []
        for step in range(STEPS):
            values, vectors = np.linalg.eigh(np.asarray(hessian(thetas[-1], data)))
            rows = vectors.T[::-1][:K]
            gaps.append((values[-K] - values[-K - 1]) / np.abs(values).max())

            def projected(v, rows=rows):
                inside = rows.T @ (rows @ v)
                return inside if side == "dom" else v - inside

            g = np.asarray(gradient(thetas[-1], batch_of(data, step)))
            if position == "update":
                update = projected(optimizer(g))
            else:
                update = optimizer(projected(g))
            spaces.append(rows)
            updates.append(update)
            thetas.append(thetas[-1] + update)
    # Otherwise the dominant space itself would be ill-defined
    assert min(gaps) > 0.02
    return np.stack(thetas), np.stack(updates), np.stack(spaces)


# --- the library ---


def transformation(base, side, position):
    parts = [BASE[base](), PROJECT[side]()]
    return optax.chain(*(parts if position == "update" else parts[::-1]))


# The solver's tolerance, and the error over the distance travelled that it allows
PRECISION = {"float32": (1e-5, 1e-3), "float64": (1e-10, 1e-8)}


@functools.cache
def library_trajectory(base, side, position, dtype):
    """Parameters [T + 1, n], updates [T, n] and the last optimizer state."""
    network = problem()
    tx = dominant.track_subspace(
        transformation(base, side, position),
        curvature=dominant.hessian(network.loss_fn),
        k=K,
        refresh=dominant.every(1),
        tol=PRECISION[dtype][0],
    )

    @jax.jit
    def run(params, data):
        def step(carry, batch):
            params, state = carry
            grads = jax.grad(network.loss_fn)(params, batch)
            updates, state = tx.update(grads, state, params, curvature_data=data)
            return (optax.apply_updates(params, updates), state), (params, updates)

        batches = [batch_of(data, i) for i in range(STEPS)]
        batches = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
        (last, state), history = jax.lax.scan(step, (params, tx.init(params)), batches)
        return last, state, history

    with jax.enable_x64(dtype == "float64"):
        params, data = zoo.cast(network.params, dtype), zoo.cast(network.data, dtype)
        last, state, (thetas, updates) = run(params, data)
    thetas = np.concatenate([zoo.to_rows(thetas), zoo.to_vector(last)[None]])
    return thetas, zoo.to_rows(updates), state


@pytest.mark.parametrize(
    ("base", "side", "position", "dtype"),
    [
        ("sgd", "dom", "update", "float64"),
        ("momentum", "bulk", "update", "float64"),
        ("momentum", "bulk", "gradient", "float64"),
        ("adam", "dom", "update", "float64"),
        ("adam", "bulk", "update", "float64"),
        ("adam", "bulk", "gradient", "float64"),
        ("sgd", "bulk", "update", "float32"),
    ],
)
def test_trajectory_equals_the_dense_one(base, side, position, dtype):
    thetas, _, state = library_trajectory(base, side, position, dtype)
    dense, _, _ = dense_trajectory(base, side, position)
    travelled = np.linalg.norm(dense[-1] - dense[0])
    assert travelled > 0.01
    error = np.max(np.linalg.norm(thetas - dense, axis=1))
    assert error <= PRECISION[dtype][1] * travelled
    assert int(state.refreshes) == STEPS
    assert int(state.failed_refreshes) == 0
    assert int(state.total_matvecs) >= K * STEPS


def test_tracked_subspace_is_that_of_the_last_pre_step_parameters():
    _, _, state = library_trajectory("adam", "bulk", "update", "float64")
    _, _, spaces = dense_trajectory("adam", "bulk", "update")
    assert zoo.largest_sine(zoo.to_rows(state.subspace.basis), spaces[-1]) <= 1e-8


# --- before or after the optimizer ---


def shares(updates, spaces):
    """The dominant part of each update over its length."""
    inside = np.linalg.norm(np.einsum("tkn,tn->tk", spaces, updates), axis=1)
    return inside / np.linalg.norm(updates, axis=1)


@pytest.mark.parametrize("base", ["momentum", "adam"])
def test_projecting_the_update_leaves_nothing_dominant(base):
    _, updates, _ = library_trajectory(base, "bulk", "update", "float64")
    _, _, spaces = dense_trajectory(base, "bulk", "update")
    assert np.max(shares(updates, spaces)) <= 1e-8


@pytest.mark.parametrize("base", ["momentum", "adam"])
def test_projecting_the_gradient_leaves_something_dominant(base):
    _, updates, _ = library_trajectory(base, "bulk", "gradient", "float64")
    _, _, spaces = dense_trajectory(base, "bulk", "gradient")
    # The first heavy-ball step is still the projected gradient itself
    assert np.median(shares(updates, spaces)) >= 1e-3


@pytest.mark.usefixtures("x64")
def test_dom_and_bulk_updates_add_up_to_the_update():
    """From the same state: the same Adam step, split in two."""
    dom, bulk = (
        library_trajectory("adam", side, "update", "float64")[1][0] for side in PROJECT
    )
    network = problem()
    data = zoo.cast(network.data, jnp.float64)
    params = zoo.cast(network.params, jnp.float64)
    gradient = jax.grad(network.loss_fn)(params, batch_of(data, 0))
    plain = numpy_optimizer("adam")(zoo.to_vector(gradient))
    error = np.linalg.norm(dom + bulk - plain)
    assert error <= 10 * np.finfo(np.float64).eps * np.linalg.norm(plain)
