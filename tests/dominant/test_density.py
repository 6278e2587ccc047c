"""Spectral densities against dense eigenvalues smoothed with the same kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import networks, zoo

pytestmark = pytest.mark.usefixtures("strict")

PROBLEMS = (
    "gapped",
    "large-negative",
    "all-negative",
    "plus-minus",
    "multiplicities",
    "rank-6",
    "geometric",
    "ring",
)
# One program for most tests.
POINTS = 801
FULL = {"num_probes": 60, "num_steps": zoo.SMALL}


@functools.partial(jax.jit, static_argnames=("num_probes", "num_steps"))
def run(matrix, grid, *, num_probes, num_steps, width=None, seed=0):
    return dominant.spectral_density(
        zoo.matvec(matrix),
        zoo.like(matrix.shape[0], matrix.dtype),
        key=jax.random.key(seed),
        num_probes=num_probes,
        num_steps=num_steps,
        grid=grid,
        width=width,
    )


def wide_grid(eigenvalues, margin, size=POINTS):
    return np.linspace(np.min(eigenvalues) - margin, np.max(eigenvalues) + margin, size)


def kernel(grid, eigenvalues, width):
    """[g, n]."""
    distances = (grid[:, None] - eigenvalues[None, :]) / width
    return np.exp(-(distances**2) / 2) / (width * np.sqrt(2 * np.pi))


def deviation(kernels, num_probes):
    """The standard deviation of the mean of v^T N v over random unit vectors v.

    For eigenvalues x of N, Var(v^T N v) = 2 (mean(x^2) - mean(x)^2) / (n + 2).
    """
    n = kernels.shape[1]
    return np.sqrt(2 * np.var(kernels, axis=1) / (n + 2) / num_probes)


@pytest.mark.parametrize("scale", zoo.SCALES, ids=lambda s: f"scale={s:g}")
@pytest.mark.parametrize("name", PROBLEMS)
def test_density_is_the_smoothed_spectrum(name, scale, dtype):
    """With num_steps = n only the probes' randomness is left, and it is known."""
    num_probes = FULL["num_probes"]
    matrix = jnp.asarray(zoo.matrix(name, zoo.SMALL, scale), dtype)
    reference = zoo.reference(matrix)
    width = 0.02 * np.ptp(reference.eigenvalues)
    grid = wide_grid(reference.eigenvalues, 8 * width)
    width_in = jnp.asarray(width, dtype)
    found = run(matrix, jnp.asarray(grid, dtype), width=width_in, **FULL)
    assert found.shape == grid.shape
    assert found.dtype == dtype
    kernels = kernel(grid, reference.eigenvalues, width)
    expected = np.mean(kernels, axis=1)
    floor = 1e-4 * np.max(kernels)  # rounding of grid and nodes, over the width
    error = np.abs(np.asarray(found, np.float64) - expected)
    assert np.all(error <= 5 * deviation(kernels, num_probes) + floor)
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-4)


def test_one_probe_has_the_spectrum_weighted_with_its_own_components(x64):
    """Exact, without any randomness: the vectors are caught at the first product."""
    n = zoo.SMALL
    matrix = zoo.matrix("gapped", n)
    reference = zoo.reference(matrix)
    seen = []

    def matvec(v):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), zoo.flatten(v))
        return zoo.matvec(jnp.asarray(matrix))(v)

    width = 0.1
    grid = wide_grid(reference.eigenvalues, 1.0)

    @jax.jit
    def density(grid):
        return dominant.spectral_density(
            matvec,
            zoo.like(n),
            key=jax.random.key(1),
            num_probes=1,
            num_steps=n,
            grid=grid,
            width=width,
        )

    found = density(jnp.asarray(grid))
    jax.effects_barrier()
    # Callbacks run outside the fixture's x64: what they get is rounded to float32.
    start = seen[0].reshape(-1).astype(np.float64)
    weights = (reference.vectors @ start) ** 2
    expected = kernel(grid, reference.eigenvalues, width) @ weights
    tolerance = 4 * np.finfo(np.float32).eps * np.max(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("value", [2.5, -2.5, 0.0])
def test_multiple_of_the_identity_is_exact_for_any_probe(value, dtype):
    """Lanczos is exhausted after one step, and no weight may go to zero."""
    matrix = jnp.asarray(value * np.eye(zoo.SMALL), dtype)
    grid = np.linspace(-4, 4, POINTS)
    expected = kernel(grid, np.array([value]), 0.3)[:, 0]
    found = run(matrix, jnp.asarray(grid, dtype), width=jnp.asarray(0.3, dtype), **FULL)
    eps = jnp.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, atol=300 * eps)


@pytest.mark.parametrize("num_steps", [1, 12])
def test_default_width_without_a_range_is_the_spacing_of_the_grid(num_steps):
    matrix = jnp.asarray(2.5 * np.eye(zoo.SMALL), jnp.float32)
    grid = np.linspace(-4, 4, 161)
    found = run(
        matrix, jnp.asarray(grid, jnp.float32), num_probes=2, num_steps=num_steps
    )
    expected = kernel(grid, np.array([2.5]), 0.05)[:, 0]
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(found, expected, atol=3e4 * eps)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_exhausted_krylov_spaces_leave_no_spurious_zeros(shift, x64):
    """Rank 6: seven distinct eigenvalues, so Lanczos ends after seven steps.

    Shifted by 3 none is zero, and what T is padded with must not count.
    """
    matrix = jnp.asarray(zoo.matrix("rank-6") + shift * np.eye(zoo.SMALL))
    reference = zoo.reference(matrix)
    width = 0.2
    grid = wide_grid(reference.eigenvalues, 4.0)
    short = run(
        matrix,
        jnp.asarray(grid),
        width=width,
        **{**FULL, "num_steps": 7},
    )
    full = run(matrix, jnp.asarray(grid), width=width, **FULL)
    np.testing.assert_allclose(full, short, atol=1e-12)
    kernels = kernel(grid, reference.eigenvalues, width)
    if shift:
        assert np.max(np.asarray(full)[np.abs(grid) < width]) <= 1e-12
    error = np.abs(full - np.mean(kernels, axis=1))
    assert np.all(error <= 5 * deviation(kernels, FULL["num_probes"]) + 1e-12)


LARGE = {"num_probes": 30, "num_steps": 25}


def test_outliers_and_the_negative_part_have_their_mass(x64):
    """Few steps on a larger matrix: the ends of the spectrum are resolved first."""
    n, num_probes = zoo.LARGE, LARGE["num_probes"]
    eigenvalues = np.concatenate([[50.0, 40.0, -30.0], np.linspace(-1, 1, n - 3)])
    matrix = jnp.asarray(zoo.with_spectrum(eigenvalues, 5))
    grid = np.linspace(-60, 60, 4001)
    found = run(matrix, jnp.asarray(grid), width=1.0, **LARGE)
    assert np.min(found) >= 0
    for value in (50, 40, -30):
        near = np.abs(grid - value) < 5
        mass = np.trapezoid(found[near], grid[near])
        f = 1 / n
        assert abs(mass - f) <= 5 * np.sqrt(2 * f * (1 - f) / (n + 2) / num_probes)
    narrow = run(matrix, jnp.asarray(grid), width=0.1, **LARGE)
    mass = np.trapezoid(narrow[grid < 0], grid[grid < 0])
    # A node of the rule more or less on either side of zero: 22 share the middle.
    assert abs(mass - np.mean(eigenvalues < 0)) <= 1 / 22


def test_quadrature_with_few_steps_has_converged_at_a_wide_kernel(x64):
    """The rule's error falls geometrically once its nodes are closer than the width."""
    matrix = jnp.asarray(zoo.matrix("linear", zoo.LARGE))
    eigenvalues = zoo.reference(matrix).eigenvalues
    grid, width = wide_grid(eigenvalues, 0.5, 4001), 0.08
    found = run(matrix, jnp.asarray(grid), width=width, **LARGE)
    kernels = kernel(grid, eigenvalues, width)
    error = np.abs(found - np.mean(kernels, axis=1))
    floor = 1e-3 * np.max(kernels)
    assert np.all(error <= 5 * deviation(kernels, LARGE["num_probes"]) + floor)


def test_default_width_is_the_ritz_range_over_the_steps(x64):
    """With num_steps = n the Ritz range is that of the spectrum."""
    matrix = jnp.asarray(zoo.matrix("gapped"))
    eigenvalues = zoo.reference(matrix).eigenvalues
    grid = jnp.asarray(wide_grid(eigenvalues, 3.0))
    width = np.ptp(eigenvalues) / zoo.SMALL
    assert width > grid[1] - grid[0]
    found = run(matrix, grid, **FULL)
    np.testing.assert_allclose(found, run(matrix, grid, width=width, **FULL))
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-6)
    coarse = 100 * grid
    spacing = coarse[1] - coarse[0]
    assert width < spacing
    np.testing.assert_allclose(
        run(matrix, coarse, **FULL), run(matrix, coarse, width=spacing, **FULL)
    )


def test_a_narrow_grid_sees_a_part_and_is_not_rescaled(x64):
    matrix = jnp.asarray(zoo.matrix("gapped"))
    whole = run(matrix, jnp.linspace(-20, 20, POINTS), width=0.3, **FULL)
    grid = jnp.linspace(-5, 5, POINTS)
    part = run(matrix, grid, width=0.3, **FULL)
    np.testing.assert_allclose(part[::4], whole[300:501], atol=1e-12)
    # the top three eigenvalues, of 31, are 10, 8 and 6
    assert np.trapezoid(part, grid) == pytest.approx(28 / 31, abs=0.05)


def test_seeds_and_operators_vmap():
    matrices = jnp.asarray([zoo.matrix("gapped"), zoo.matrix("ring")], jnp.float32)
    grid = jnp.asarray(wide_grid(np.array([-1, 10]), 3.0), jnp.float32)
    width = jnp.float32(0.5)
    together = jax.vmap(lambda m, s: run(m, grid, seed=s, width=width, **FULL))(
        matrices, jnp.arange(2)
    )
    alone = [run(m, grid, seed=s, width=width, **FULL) for s, m in enumerate(matrices)]
    np.testing.assert_allclose(together, alone, atol=1e3 * np.finfo(np.float32).eps)
    other = run(matrices[0], grid, seed=1, width=width, **FULL)
    assert not np.allclose(other, alone[0], atol=1e-3)  # the key is used


def test_density_of_one_layer(x64):
    """Leaves that take no part are None."""
    problem = networks.network("tanh-softmax")
    params = zoo.cast(problem.params, jnp.float64)
    data = zoo.cast(problem.data, jnp.float64)
    curvature = dominant.restrict(
        dominant.hessian(problem.loss_fn), lambda path, leaf: path[1].idx == 1
    )
    size = sum(leaf.size for leaf in jax.tree.leaves(params["layers"][1]))
    eigenvalues = np.linalg.eigvalsh(
        networks.curvatures("tanh-softmax").hessian[-size:, -size:]
    )
    grid = wide_grid(eigenvalues, 0.5)
    num_probes, width = 50, 0.05
    found = jax.jit(
        lambda params, data: dominant.spectral_density(
            curvature(params, data),
            dominant.domain(curvature, params),
            key=jax.random.key(2),
            num_probes=num_probes,
            num_steps=size,
            grid=jnp.asarray(grid),
            width=width,
        )
    )(params, data)
    kernels = kernel(grid, eigenvalues, width)
    error = np.abs(found - np.mean(kernels, axis=1))
    assert np.all(error <= 5 * deviation(kernels, num_probes) + 1e-6)


def test_non_finite_products_show():
    matrix = jnp.asarray(zoo.matrix("gapped"), jnp.float32).at[3, 4].set(jnp.nan)
    grid = jnp.linspace(-1, 1, POINTS)
    found = run(matrix, grid, width=jnp.float32(0.1), **FULL)
    assert np.all(np.isnan(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_probes": 0}, "num_probes must be at least 1, got 0"),
        ({"num_steps": 0}, "num_steps must be between 1"),
        ({"num_steps": 32}, r"number of parameters \(31\), got 32"),
        ({"width": 0.0}, "width must be positive, got 0"),
        ({"width": -1}, "width must be positive, got -1"),
        ({"grid": jnp.ones((2, 2))}, r"one axis, got shape \(2, 2\)"),
        ({"grid": jnp.ones(1)}, "needs a `width`"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(change, message):
    options = {"num_probes": 1, "num_steps": 2, "grid": jnp.linspace(0, 1, 3)}
    with pytest.raises(ValueError, match=message):
        dominant.spectral_density(
            lambda v: v,
            zoo.like(zoo.SMALL, np.float32),
            key=jax.random.key(0),
            **{**options, **change},
        )
