"""Projected optimizers on quadratics, against closed forms.

Tiny training loops with the library's optax transformations. Where the closed form is
an expectation, the allowed error is a multiple of the sample's own standard error.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

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


# --- 1 to 4: noise, alignment, and what each projection freezes ---

SHARP, FLAT, RATE, K = 20.0, 0.5, 0.05, 3
TWO_LEVELS = [SHARP] * K + [FLAT] * (N - K)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("steps", [1, 3, 40])
def test_variance_of_dom_sgd_grows_as_the_geometric_sum(steps):
    problem = Quadratic(TWO_LEVELS, K)
    start = np.concatenate([np.zeros(K), np.linspace(-1, 1, N - K)])
    tx = optax.chain(optax.sgd(RATE), dominant.dom_project())
    subspace = problem.subspace(1e-13)
    u, _, _ = simulate_seeds(
        tx, problem, problem.params(start), subspace, steps=steps, seeds=4096
    )
    contraction = (1 - RATE * SHARP) ** 2
    expected = RATE**2 * (1 - contraction**steps) / (1 - contraction)
    assert_mean(np.square(u[:, :K]).ravel(), expected)
    # ... and the bulk does not move
    assert np.max(np.abs(u[:, K:] - start[K:])) <= 1e-11


@pytest.mark.usefixtures("x64")
def test_variance_of_bulk_sgd_is_the_stationary_one():
    problem = Quadratic(TWO_LEVELS, K)
    start = np.concatenate([np.ones(K), np.zeros(N - K)])
    tx = optax.chain(optax.sgd(RATE), dominant.bulk_project())
    steps = 150
    u, _, _ = simulate_seeds(
        tx,
        problem,
        problem.params(start),
        problem.subspace(1e-13),
        steps=steps,
        seeds=512,
    )
    slow = 1 - (1 - RATE * FLAT) ** (2 * steps)
    assert_mean(np.square(u[:, K:]).ravel(), slow * RATE / (2 * FLAT - RATE * FLAT**2))
    assert np.max(np.abs(u[:, :K] - start[:K])) <= 1e-11


@functools.cache
def stationary_gradients():
    """Alignments and dominant energies of the gradient of stationary SGD."""
    problem = Quadratic(TWO_LEVELS, K, np.float32)
    subspace = problem.subspace(1e-6)
    start = problem.params(np.zeros(N))
    u, _, _ = simulate_seeds(
        optax.sgd(RATE), problem, start, subspace, steps=300, seeds=2048
    )

    def measure(coordinates):
        params = zoo.unflatten(coordinates @ problem.rows.astype("f"), problem.like)
        g = jax.grad(problem.loss_fn)(params, problem.data())
        inside = zoo.flatten(dominant.project(g, subspace))
        total = zoo.flatten(g)
        return (
            dominant.alignment(g, subspace),
            jnp.vdot(inside, inside),
            jnp.vdot(total, total),
        )

    chi, inside, total = (np.asarray(x) for x in jax.jit(jax.vmap(measure))(u))
    return chi, inside, total


def test_noise_alone_aligns_the_gradient():
    _, inside, total = stationary_gradients()
    a = K * SHARP / (2 - RATE * SHARP)
    b = (N - K) * FLAT / (2 - RATE * FLAT)
    assert_ratio_of_means(inside, total, a / (a + b))


def test_mean_alignment_is_not_the_root_of_the_energy():
    """Mean chi .960 (published to three digits), while the root of .963 is .982."""
    chi, inside, total = stationary_gradients()
    standard_error = np.std(chi) / np.sqrt(len(chi))
    assert abs(np.mean(chi) - 0.960) <= 0.0005 + STANDARD_ERRORS * standard_error
    root = np.sqrt(np.mean(inside) / np.mean(total))
    assert np.mean(chi) < root - STANDARD_ERRORS * standard_error


def exact_split(dtype):
    """Three sharp and five flat coordinates, and the exact dominant space."""
    like = {"flat": jnp.zeros(5, dtype), "sharp": jnp.zeros(3, dtype)}
    rows = np.concatenate([np.zeros((3, 5)), np.eye(3)], axis=1)
    return like, zoo.subspace(rows, like)


@pytest.mark.usefixtures("x64")
def test_dom_freezes_the_bulk_and_reaches_its_noise_floor():
    """E L -> y_0 M y_0 / 2 + sum_i rate sigma_i^2 / (2 - rate lambda_i) / 2."""
    _, subspace = exact_split(jnp.float64)
    sharp, sigma = np.array([30.0, 20.0, 10.0]), np.array([1.0, 2.0, 3.0])
    flat = np.abs(zoo.with_spectrum(np.linspace(1, 0.1, 5), seed=1)) + np.eye(5)
    rate, y0 = 0.04, np.linspace(0.1, 0.5, 5)

    def loss_fn(params):
        x, y = params["sharp"], params["flat"]
        return jnp.vdot(x, sharp * x) / 2 + jnp.vdot(y, flat @ y) / 2

    def gradient(params, key):
        g = jax.grad(loss_fn)(params)
        return {**g, "sharp": g["sharp"] + sigma * jax.random.normal(key, (3,))}

    tx = optax.chain(optax.sgd(rate), dominant.dom_project())
    start = {"sharp": jnp.zeros(3), "flat": jnp.asarray(y0)}

    def run(key):
        keys = jax.random.split(key, 40)
        last, _ = simulate(tx, gradient, start, subspace, keys)
        return loss_fn(last), last["flat"]

    loss, y = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 4096))
    np.testing.assert_array_equal(y, np.broadcast_to(y0, y.shape))  # bit for bit
    frozen = y0 @ flat @ y0 / 2
    floor = np.sum(rate * sigma**2 / (2 - rate * sharp)) / 2
    assert_mean(np.asarray(loss) - frozen, floor)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_projections_with_an_exact_basis_freeze_bit_for_bit(precision):
    with jax.enable_x64(precision == "float64"):
        like, subspace = exact_split(jnp.dtype(precision))
        start = zoo.to_tree(np.random.default_rng(0).standard_normal(8), like)
        steps = np.random.default_rng(1).standard_normal((50, 8))
        for side, frozen in (("dom", "flat"), ("bulk", "sharp")):
            project = {"dom": dominant.dom_project, "bulk": dominant.bulk_project}
            tx = optax.chain(optax.sgd(0.3, momentum=0.9), project[side]())
            last, _ = simulate(
                tx, lambda _, g: g, start, subspace, zoo.from_rows(steps, like)
            )
            np.testing.assert_array_equal(last[frozen], start[frozen])
            moved = {"flat": "sharp", "sharp": "flat"}[frozen]
            assert np.all(np.asarray(last[moved]) != np.asarray(start[moved]))


@pytest.mark.usefixtures("x64")
def test_gradient_descent_loses_alignment_geometrically():
    """tan(angle to the bulk) shrinks by (1 - rate lambda) / (1 - rate mu) a step."""
    problem = Quadratic(TWO_LEVELS, K)
    subspace = problem.subspace(1e-13)
    start, rate = problem.params(np.ones(N)), 0.02

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    def measure(params, _):
        return dominant.alignment(gradient(params, None), subspace)

    _, chi = jax.jit(
        lambda: simulate(
            optax.sgd(rate), gradient, start, subspace, jnp.arange(25), measure
        )
    )()
    chi = np.asarray(chi)
    tangents = chi / np.sqrt(1 - chi**2)
    factor = (1 - rate * SHARP) / (1 - rate * FLAT)
    expected = tangents[0] * factor ** np.arange(25)
    # chi close to 1 determines its tangent with a relative error eps tan^2
    allowed = 100 * EPS * (1 + tangents**2) + 1e-12 / expected
    assert np.all(np.abs(tangents / expected - 1) <= allowed)
    assert chi[-1] < 1e-3


# --- 5, 6: the toy of two coordinates ---


def toy_loss_fn(params, data):
    """Half of 1000 x^2 + y^2, plus or minus 100 x y: the sign is the example."""
    x, y = params["x"], params["y"]
    return jnp.mean((1000 * x**2 + y**2) / 2 + 100 * data["sign"] * x * y)


def toy(dtype):
    """Both signs: the data set whose mean loss is the base quadratic."""
    return {"sign": jnp.asarray([1, -1], dtype)}


def toy_subspace(dtype):
    """The sharp axis, by the library."""
    params = {"x": jnp.ones((), dtype), "y": jnp.ones((), dtype)}
    matvec = dominant.hessian(toy_loss_fn)(params, toy(dtype))
    return dominant.top_eigenspace(matvec, params, 1, tol=1e-6)


def exact_toy_subspace(dtype):
    like = {"x": jnp.zeros((), dtype), "y": jnp.zeros((), dtype)}
    return zoo.subspace(np.array([[1.0, 0.0]]), like)


def simulate_toy(tx, start, subspace, *, steps, seeds, measure=lambda *_: ()):
    dtype = jnp.asarray(0.0).dtype
    start = {name: jnp.asarray(value, dtype) for name, value in start.items()}

    def gradient(params, key):
        data = {"sign": jax.random.rademacher(key, (1,), dtype)}
        return jax.grad(toy_loss_fn)(params, data)

    def run(key, start, subspace):
        keys = jax.random.split(key, steps)
        return simulate(tx, gradient, start, subspace, keys, measure)

    keys = jax.random.split(jax.random.key(3), seeds)
    return jax.jit(jax.vmap(run, in_axes=(0, None, None)))(keys, start, subspace)


@pytest.mark.parametrize("rate", [1e-4, 5e-4, 1e-3])
def test_toy_follows_the_recursion_of_second_moments(rate):
    steps = 60
    last, _ = simulate_toy(
        optax.sgd(rate),
        {"x": 0.0, "y": 1.0},
        toy_subspace(jnp.float32),
        steps=steps,
        seeds=8192,
    )
    a, b, c = 1 - 1000 * rate, 1 - rate, 1e4 * rate**2
    moments = np.linalg.matrix_power([[a**2, c], [c, b**2]], steps) @ [0.0, 1.0]
    x, y = (np.asarray(last[name], np.float64) for name in "xy")
    assert_mean(np.stack([x**2, y**2], axis=1), moments)
    # E xy = 0 from this start
    standard_error = np.std(x * y) / np.sqrt(len(x))
    assert abs(np.mean(x * y)) <= STANDARD_ERRORS * standard_error
    assert_ratio_of_means(x**2, y**2, moments[0] / moments[1])


def test_toy_second_moments_are_quasi_stationary():
    """The ratio of the recursion's top eigenvector is 10 rate / (2 - 1000 rate)."""
    rate = 5e-4
    a, b, c = 1 - 1000 * rate, 1 - rate, 1e4 * rate**2
    _, vectors = np.linalg.eigh([[a**2, c], [c, b**2]])
    ratio = vectors[0, -1] / vectors[1, -1]
    assert abs(ratio / (10 * rate / (2 - 1000 * rate)) - 1) <= 10 * rate
    last, _ = simulate_toy(
        optax.sgd(rate),
        {"x": 0.0, "y": 1.0},
        toy_subspace(jnp.float32),
        steps=60,
        seeds=8192,
    )
    assert_ratio_of_means(np.square(last["x"]), np.square(last["y"]), ratio)


@pytest.mark.parametrize(
    ("rate", "chi"), [(1e-4, 0.967), (5e-4, 0.993), (1e-3, 0.99995)]
)
def test_toy_alignment_along_the_path(rate, chi):
    subspace = toy_subspace(jnp.float32)

    def measure(params, _):
        g = jax.grad(toy_loss_fn)(params, toy(jnp.float32))
        return dominant.alignment(g, subspace)

    _, path = simulate_toy(
        optax.sgd(rate),
        {"x": 0.0, "y": 1.0},
        subspace,
        steps=300,
        seeds=512,
        measure=measure,
    )
    means = np.mean(np.asarray(path)[:, 100:], axis=1)  # past the transient
    standard_error = np.std(means) / np.sqrt(len(means))
    digits = 0.5 * 10.0 ** -len(str(chi)[2:])  # the printed value's own rounding
    assert abs(np.mean(means) - chi) <= digits + STANDARD_ERRORS * standard_error


def test_toy_dom_does_not_reach_the_loss_of_the_frozen_flat_part():
    """E L -> y_0^2 / 2 (1 + 10^4 rate / (2 - 1000 rate)) = 2.1667, not 1/2."""
    rate = 5e-4
    last, _ = simulate_toy(
        optax.chain(optax.sgd(rate), dominant.dom_project()),
        {"x": 0.0, "y": 1.0},
        exact_toy_subspace(jnp.float32),
        steps=60,
        seeds=8192,
    )
    np.testing.assert_array_equal(last["y"], np.ones(8192))
    x = np.asarray(last["x"], np.float64)
    assert_mean((1000 * x**2 + 1) / 2, (1 + 1e4 * rate / (2 - 1000 * rate)) / 2)


@pytest.mark.usefixtures("x64")
def test_toy_bulk_is_deterministic_from_the_valley_floor():
    """From x_0 = 0: y_t = (1 - rate)^t, whatever the noise."""
    rate, steps = 5e-4, 4000

    def measure(params, _):
        return params["y"]

    last, path = simulate_toy(
        optax.chain(optax.sgd(rate), dominant.bulk_project()),
        {"x": 0.0, "y": 1.0},
        toy_subspace(jnp.float64),
        steps=steps,
        seeds=2,
        measure=measure,
    )
    expected = (1 - rate) ** np.arange(steps)
    assert np.max(np.abs(np.asarray(path) / expected - 1)) <= 1e-10
    assert np.max(np.abs(np.asarray(last["x"]))) <= 1e-10


def test_toy_bulk_from_a_noisy_point_has_a_floor():
    """E y_t = (1 - rate)^t y_0, and Var y tends to 10^4 rate x_0^2 / (2 - rate)."""
    rate, steps, x0, y0 = 5e-2, 20, 0.03, 2.0
    last, _ = simulate_toy(
        optax.chain(optax.sgd(rate), dominant.bulk_project()),
        {"x": x0, "y": y0},
        exact_toy_subspace(jnp.float32),
        steps=steps,
        seeds=8192,
    )
    np.testing.assert_array_equal(last["x"], np.full(8192, x0, np.float32))
    y = np.asarray(last["y"], np.float64)
    mean = (1 - rate) ** steps * y0
    assert_mean(y, mean)
    saturation = 1 - (1 - rate) ** (2 * steps)
    assert_mean((y - mean) ** 2, saturation * 1e4 * rate * x0**2 / (2 - rate))


# --- 7: momentum ---

BETA = 0.9


def momentum_on(gradients, side):
    """Updates of projected heavy ball on prescribed gradients."""
    like, subspace = exact_split(jnp.float64)
    project = {"dom": dominant.dom_project, "bulk": dominant.bulk_project}[side]
    tx = optax.chain(optax.sgd(RATE, momentum=BETA), project())
    _, updates = simulate(
        tx,
        lambda _, g: g,
        like,
        subspace,
        zoo.from_rows(gradients, like),
        lambda _, updates: updates,
    )
    return zoo.to_rows(updates)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("side", ["dom", "bulk"])
def test_effective_rate_of_momentum_on_constant_and_alternating_gradients(side):
    """Rate / (1 - beta) = 10 rate, and rate / (1 + beta) = 0.526 rate."""
    steps = 400
    gradient = np.random.default_rng(0).standard_normal(8)
    signs = (-1.0) ** np.arange(steps)
    mine = np.arange(8) >= 5 if side == "dom" else np.arange(8) < 5
    forgotten = BETA**steps
    for pattern, factor in ((np.ones(steps), 1 - BETA), (signs, 1 + BETA)):
        updates = momentum_on(pattern[:, None] * gradient, side)
        expected = -RATE / factor * pattern[-1] * gradient * mine
        allowed = (100 * EPS + forgotten / factor) * np.max(np.abs(gradient))
        assert np.max(np.abs(updates[-1] - expected)) <= allowed


@pytest.mark.usefixtures("x64")
def test_stationary_momentum_under_dom():
    """Var u, and E <-step, g> / E g^2 = rate / (1 + beta) in every direction."""
    a = np.array([3.0, 1.0, 0.2])  # rate * lambda, below the edge 2 (1 + beta) = 3.8
    eigenvalues = np.concatenate([a / RATE, np.linspace(1, 0.1, N - 3)])
    problem = Quadratic(eigenvalues, 3)
    tx = optax.chain(optax.sgd(RATE, momentum=BETA), dominant.dom_project())
    start = problem.params(np.concatenate([np.zeros(3), np.ones(N - 3)]))
    _, u, step = simulate_seeds(
        tx, problem, start, problem.subspace(1e-13), steps=150, seeds=8192
    )
    u, step = u[:, :3], step[:, :3]
    variance = RATE**2 * (1 + BETA) / ((1 - BETA) * a * (2 * (1 + BETA) - a))
    assert_mean(u**2, variance)
    g = eigenvalues[:3] * u
    product = -step * g
    ratio = np.mean(product, axis=0) / np.mean(g**2, axis=0)
    spread = np.std(product - ratio * g**2, axis=0) / np.mean(g**2, axis=0)
    error = np.abs(ratio - RATE / (1 + BETA))
    assert np.all(error <= STANDARD_ERRORS * spread / np.sqrt(len(g)))


# --- 8: the edges of stability ---


EDGES = {
    "gd": (lambda rate: optax.sgd(rate), lambda rate: 2 / rate),
    "heavy-ball": (
        lambda rate: optax.sgd(rate, momentum=BETA),
        lambda rate: 2 * (1 + BETA) / rate,
    ),
    "nesterov": (
        lambda rate: optax.sgd(rate, momentum=BETA, nesterov=True),
        lambda rate: 2 * (1 + BETA) / ((1 + 2 * BETA) * rate),
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("optimizer", EDGES)
@pytest.mark.parametrize(("relative", "grows"), [(0.98, False), (1.02, True)])
def test_bulk_steps_need_only_the_bulk_below_the_edge(optimizer, relative, grows):
    """The dominant eigenvalues are ten times beyond the edge, and do not matter."""
    make, edge_of = EDGES[optimizer]
    rate = 0.1
    edge = edge_of(rate)
    eigenvalues = np.concatenate([[10 * edge] * 2, [relative * edge], np.ones(N - 3)])
    problem = Quadratic(eigenvalues, 2)

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    tx = optax.chain(make(rate), dominant.bulk_project())
    start = problem.params(np.concatenate([[0, 0, 1.0], np.zeros(N - 3)]))
    # An exact space: what leaks of an unstable direction would grow
    subspace = problem.subspace(1e-13)
    last, _ = jax.jit(
        lambda: simulate(tx, gradient, start, subspace, jnp.arange(1000))
    )()
    size = abs(float(problem.coordinates(last)[2]))
    assert size > 10 if grows else size < 0.1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("dom", "bulk", "stable"),
    [
        (0.49, 1.9, True),  # dom * rate * lambda_1 = 1.96, bulk * rate * lambda_4 = 1.9
        (0.51, 1.9, False),
        (0.49, 2.1, False),
    ],
)
def test_interpolated_steps_are_stable_below_both_edges(dom, bulk, stable):
    rate = 0.1
    problem = Quadratic([40.0, 35.0, 30.0] + [10.0] * (N - 3), 3)

    def gradient(params, _):
        return jax.grad(problem.loss_fn)(params, problem.data())

    tx = optax.chain(optax.sgd(rate), dominant.interpolate_project(dom, bulk))
    start, subspace = problem.params(np.ones(N)), problem.subspace(1e-13)
    last, _ = jax.jit(
        lambda: simulate(tx, gradient, start, subspace, jnp.arange(300))
    )()
    size = float(jnp.linalg.norm(problem.coordinates(last)))
    assert size < 0.1 if stable else size > 100


@pytest.mark.usefixtures("x64")
def test_effective_rates_of_interpolated_descent_are_exact():
    """-<step, P g> / |P g|^2 is dom times the rate, and bulk times it outside."""
    problem = Quadratic(np.linspace(20, 1, N), 4)
    subspace, params = problem.subspace(1e-13), problem.params(np.ones(N))
    g = jax.grad(problem.loss_fn)(params, problem.data())
    tx = optax.chain(optax.sgd(RATE), dominant.interpolate_project(0.25, 3.0))
    step, _ = tx.update(g, tx.init(params), params, subspace=subspace)
    for part, weight in ((dominant.project, 0.25), (dominant.reject, 3.0)):
        inside = ravel_pytree(part(g, subspace))[0]
        effective = -jnp.vdot(ravel_pytree(step)[0], inside) / jnp.vdot(inside, inside)
        assert abs(float(effective) / (weight * RATE) - 1) <= 100 * EPS


# --- 9: SAM ---


def sam_gradient(loss_gradient, radius):
    """The gradient at theta + radius g / |g|."""

    def gradient(params, _):
        g = loss_gradient(params)
        length = optax.tree.norm(g)
        ascent = jax.tree.map(lambda p, d: p + radius * d / length, params, g)
        return loss_gradient(ascent)

    return gradient


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("project", ["none", "dom"])
def test_sam_bounces_along_the_sharpest_direction(project):
    """|u_1| -> rate lambda_1 radius / (2 - rate lambda_1), and chi_1 -> 1."""
    rate, radius, top = 0.05, 0.1, 20.0
    # Well separated: the others die out, under Dom they are frozen at 0
    problem = Quadratic([top, *np.linspace(8, 1, N - 1)], 1)
    subspace = problem.subspace(1e-13)
    start = np.ones(N)
    tx = optax.sgd(rate)
    if project == "dom":
        tx = optax.chain(tx, dominant.dom_project())
        start[1:] = 0

    def loss_gradient(params):
        return jax.grad(problem.loss_fn)(params, problem.data())

    def measure(params, _):
        chi = dominant.alignment(loss_gradient(params), subspace)
        return problem.coordinates(params), chi

    _, (u, chi) = jax.jit(
        lambda: simulate(
            tx,
            sam_gradient(loss_gradient, radius),
            problem.params(start),
            subspace,
            jnp.arange(3000),
            measure,
        )
    )()
    u, chi = np.asarray(u), np.asarray(chi)
    bounce = rate * top * radius / (2 - rate * top)
    assert np.max(np.abs(np.abs(u[-2:, 0]) - bounce)) <= 1e-9
    assert u[-1, 0] * u[-2, 0] < 0
    assert np.max(np.abs(u[-1, 1:])) <= 1e-9
    assert abs(chi[-1] - 1) <= 1e-9


# --- 10: the threshold of one step ---


def one_step(problem, side, rate, start, noise):
    """Mean over +noise and -noise, exactly, of the loss and both energies after a step.

    Cross terms cancel between the signs, so the mean has no Monte Carlo error.
    """
    project = {
        "plain": dominant.interpolate_project(1.0, 1.0),
        "dom": dominant.dom_project(),
        "bulk": dominant.bulk_project(),
    }[side]
    tx, subspace = optax.chain(optax.sgd(rate), project), problem.subspace(1e-13)
    params = problem.params(start)
    results = []
    for sign in (1, -1):
        data = problem.data(jnp.asarray(sign * noise))
        g = jax.grad(problem.loss_fn)(params, data)
        step, _ = tx.update(g, tx.init(params), params, subspace=subspace)
        after = optax.apply_updates(params, step)
        full = jax.grad(problem.loss_fn)(after, problem.data())
        energies = [
            float(jnp.square(optax.tree.norm(part(full, subspace))))
            for part in (dominant.project, dominant.reject)
        ]
        results.append([float(problem.loss_fn(after, problem.data())), *energies])
    return np.mean(results, axis=0)


@pytest.fixture
def threshold(x64):
    """A two-level quadratic with a point, its noise, and the noise-to-signal ratios."""
    problem = Quadratic(TWO_LEVELS, K)
    start = np.concatenate([np.full(K, 0.02), np.full(N - K, 0.5)])
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(N) * np.concatenate(
        [np.full(K, 1.0), np.full(N - K, 0.1)]
    )
    g = problem.eigenvalues * start
    energies = np.array([np.sum(g[:K] ** 2), np.sum(g[K:] ** 2)])
    ratios = np.array([np.sum(noise[:K] ** 2), np.sum(noise[K:] ** 2)]) / energies
    return problem, start, noise, energies, ratios


def test_one_step_multiplies_the_energies_as_predicted(threshold):
    problem, start, noise, energies, ratios = threshold
    levels = np.array([SHARP, FLAT])
    factors = (1 - RATE * levels) ** 2 + (RATE * levels) ** 2 * ratios
    found = one_step(problem, "plain", RATE, start, noise)[1:]
    assert np.max(np.abs(found / (energies * factors) - 1)) <= 1e-11


@pytest.mark.parametrize(("relative", "grows"), [(0.99, False), (1.01, True)])
@pytest.mark.parametrize("quiet", [False, True], ids=["noisy", "noiseless"])
def test_alignment_grows_beyond_the_critical_rate(threshold, relative, grows, quiet):
    problem, start, noise, energies, (s_d, s_b) = threshold
    if quiet:
        noise, s_d, s_b = 0 * noise, 0.0, 0.0
    critical = 2 * (SHARP - FLAT) / (SHARP**2 * (1 + s_d) - FLAT**2 * (1 + s_b))
    if quiet:
        assert abs(critical * (SHARP + FLAT) / 2 - 1) <= 10 * EPS
    _, dom, bulk = one_step(problem, "plain", relative * critical, start, noise)
    assert (dom / bulk > energies[0] / energies[1]) == grows


@pytest.mark.parametrize("side", ["dom", "bulk"])
@pytest.mark.parametrize(("relative", "hurts"), [(0.99, False), (1.01, True)])
def test_each_projected_step_has_its_own_critical_rate(
    threshold, side, relative, hurts
):
    """Dom hurts beyond 2 / (lambda (1 + s_d)), Bulk beyond 2 / (mu (1 + s_b))."""
    problem, start, noise, _, ratios = threshold
    level, ratio = (SHARP, ratios[0]) if side == "dom" else (FLAT, ratios[1])
    rate = relative * 2 / (level * (1 + ratio))
    before = float(problem.loss_fn(problem.params(start), problem.data()))
    after, _, _ = one_step(problem, side, rate, start, noise)
    assert (after > before) == hurts


def test_between_the_thresholds_bulk_helps_and_dom_hurts(threshold):
    problem, start, noise, _, (s_d, s_b) = threshold
    rate = np.sqrt(4 / (SHARP * (1 + s_d) * FLAT * (1 + s_b)))
    before = float(problem.loss_fn(problem.params(start), problem.data()))
    dom, bulk = (one_step(problem, s, rate, start, noise)[0] for s in ("dom", "bulk"))
    assert bulk < before < dom


@pytest.mark.usefixtures("x64")
def test_dom_step_is_worth_nothing_at_dominant_stationarity():
    """Var u = rate s^2 / (2 lambda - rate lambda^2) makes the threshold the rate."""
    problem = Quadratic(TWO_LEVELS, K)
    deviation = np.sqrt(RATE / (2 * SHARP - RATE * SHARP**2))
    start = np.concatenate([np.full(K, deviation), np.ones(N - K)])
    noise = np.concatenate([np.ones(K), np.zeros(N - K)])
    before = float(problem.loss_fn(problem.params(start), problem.data()))
    after, _, _ = one_step(problem, "dom", RATE, start, noise)
    assert abs(after - before) <= 1e-11 * before


# --- the papers' switch rule ---


@pytest.mark.parametrize(
    ("chi", "switch"), [(1.0, 29), (0.99, 31), (0.97, 37), (0.96, 44)]
)
def test_warm_up_ends_at_the_update_that_the_average_predicts(chi, switch):
    """Started at 0, at a constant chi: ceil(log(1 - 0.95 / chi) / log 0.9)."""
    assert switch == int(np.ceil(np.log(1 - 0.95 / chi) / np.log(0.9)))
    with jax.enable_x64(True):
        like, subspace = exact_split(jnp.float64)
        gradient = {
            "sharp": jnp.asarray([chi, 0, 0]),
            "flat": jnp.sqrt(1 - chi**2) * jnp.asarray([1.0, 0, 0, 0, 0]),
        }
        tx = dominant.after_alignment(dominant.dom_project(), threshold=0.95, decay=0.9)

        def step(state, _):
            _, state = tx.update(
                gradient, state, like, subspace=subspace, gradient=gradient
            )
            return state, state.engaged

        _, engaged = jax.lax.scan(step, tx.init(like), None, length=60)
    np.testing.assert_array_equal(engaged, np.arange(1, 61) >= switch)
