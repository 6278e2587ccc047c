"""Spectral densities against dense eigenvalues smoothed with the same kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dominant
from tests.dominant import zoo

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


def wide_grid(eigenvalues, margin, size=801):
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
    n, num_probes = zoo.SMALL, 60
    matrix = jnp.asarray(zoo.matrix(name, n, scale), dtype)
    reference = zoo.reference(matrix)
    width = 0.02 * np.ptp(reference.eigenvalues)
    grid = wide_grid(reference.eigenvalues, 8 * width)
    found = run(
        matrix,
        jnp.asarray(grid, dtype),
        num_probes=num_probes,
        num_steps=n,
        width=jnp.asarray(width, dtype),
    )
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
    found = dominant.spectral_density(
        matvec,
        zoo.like(n),
        key=jax.random.key(1),
        num_probes=1,
        num_steps=n,
        grid=jnp.asarray(grid),
        width=width,
    )
    jax.effects_barrier()
    (start,) = [v for v in seen if v is seen[0]]
    weights = (reference.vectors @ start.reshape(-1)) ** 2
    assert np.sum(weights) == pytest.approx(1)
    expected = kernel(grid, reference.eigenvalues, width) @ weights
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("num_steps", [1, 2, 12, zoo.SMALL])
@pytest.mark.parametrize("value", [2.5, -2.5, 0.0])
def test_multiple_of_the_identity_is_exact_for_any_probe(value, num_steps, dtype):
    """Lanczos is exhausted after one step, and no weight may go to zero."""
    matrix = jnp.asarray(value * np.eye(zoo.SMALL), dtype)
    grid = np.linspace(-4, 4, 161)
    expected = kernel(grid, np.array([value]), 0.3)[:, 0]
    found = run(
        matrix,
        jnp.asarray(grid, dtype),
        num_probes=2,
        num_steps=num_steps,
        width=jnp.asarray(0.3, dtype),
    )
    eps = jnp.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, atol=300 * eps)
    # Without a range the default width is the grid's spacing, 0.05.
    found = run(matrix, jnp.asarray(grid, dtype), num_probes=2, num_steps=num_steps)
    expected = kernel(grid, np.array([value]), 0.05)[:, 0]
    np.testing.assert_allclose(found, expected, atol=3e4 * eps)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_exhausted_krylov_spaces_leave_no_spurious_zeros(shift, dtype):
    """Rank 6: seven distinct eigenvalues, so Lanczos ends after seven steps.

    Shifted by 3 none is zero, and what T is padded with must not count.
    """
    n = zoo.SMALL
    matrix = zoo.matrix("rank-6", n) + shift * np.eye(n)
    reference = zoo.reference(matrix)
    width, num_probes = 0.2, 40
    grid = wide_grid(reference.eigenvalues, 4.0)
    densities = [
        run(
            jnp.asarray(matrix, dtype),
            jnp.asarray(grid, dtype),
            num_probes=num_probes,
            num_steps=num_steps,
            width=jnp.asarray(width, dtype),
        )
        for num_steps in (7, 12, n)
    ]
    tolerance = 1e4 * jnp.finfo(dtype).eps
    for density in densities[1:]:
        np.testing.assert_allclose(density, densities[0], atol=tolerance)
    at_zero = np.asarray(densities[-1])[np.abs(grid) < width]
    kernels = kernel(grid, reference.eigenvalues, width)
    if shift:
        assert np.max(at_zero) <= tolerance
    error = np.abs(densities[-1] - np.mean(kernels, axis=1))
    assert np.all(error <= 5 * deviation(kernels, num_probes) + tolerance)


def test_outliers_and_the_negative_part_have_their_mass(x64):
    """Few steps on a larger matrix: the ends of the spectrum are resolved first."""
    n, num_probes = zoo.LARGE, 30
    eigenvalues = np.concatenate([[50.0, 40.0, -30.0], np.linspace(-1, 1, n - 3)])
    matrix = jnp.asarray(zoo.with_spectrum(eigenvalues, 5))
    grid = np.linspace(-60, 60, 4001)
    found = run(matrix, jnp.asarray(grid), num_probes=num_probes, num_steps=25, width=1)
    assert np.min(found) >= 0
    for value in (50, 40, -30):
        near = np.abs(grid - value) < 5
        mass = np.trapezoid(found[near], grid[near])
        f = 1 / n
        assert abs(mass - f) <= 5 * np.sqrt(2 * f * (1 - f) / (n + 2) / num_probes)
    narrow = run(
        matrix, jnp.asarray(grid), num_probes=num_probes, num_steps=25, width=0.1
    )
    mass = np.trapezoid(narrow[grid < 0], grid[grid < 0])
    f = np.mean(eigenvalues < 0)
    # one node of the rule more or less on either side of zero
    assert abs(mass - f) <= 0.05


def test_quadrature_with_few_steps_has_converged_at_a_wide_kernel(x64):
    """The rule's error falls geometrically once its nodes are closer than the width."""
    n, num_probes = zoo.LARGE, 20
    matrix = jnp.asarray(zoo.matrix("linear", n))
    eigenvalues = zoo.reference(matrix).eigenvalues
    grid, width = wide_grid(eigenvalues, 0.5), 0.08
    found = run(
        matrix, jnp.asarray(grid), num_probes=num_probes, num_steps=30, width=width
    )
    kernels = kernel(grid, eigenvalues, width)
    error = np.abs(found - np.mean(kernels, axis=1))
    assert np.all(error <= 5 * deviation(kernels, num_probes) + 1e-3 * np.max(kernels))


def test_default_width_is_the_ritz_range_over_the_steps(x64):
    """With num_steps = n the Ritz range is that of the spectrum."""
    n = zoo.SMALL
    matrix = jnp.asarray(zoo.matrix("gapped", n))
    eigenvalues = zoo.reference(matrix).eigenvalues
    grid = jnp.asarray(wide_grid(eigenvalues, 3.0))
    options = {"num_probes": 5, "num_steps": n}
    found = run(matrix, grid, **options)
    width = np.ptp(eigenvalues) / n
    assert width > grid[1] - grid[0]
    np.testing.assert_allclose(found, run(matrix, grid, width=width, **options))
    assert np.trapezoid(found, grid) == pytest.approx(1, abs=1e-6)
    coarse = grid[::100]
    spacing = coarse[1] - coarse[0]
    assert width < spacing
    np.testing.assert_allclose(
        run(matrix, coarse, **options), run(matrix, coarse, width=spacing, **options)
    )


def test_a_narrow_grid_sees_a_part_and_is_not_rescaled(x64):
    matrix = jnp.asarray(zoo.matrix("gapped"))
    grid = jnp.linspace(-20, 20, 2001)
    options = {"num_probes": 5, "num_steps": 20, "width": 0.3}
    whole = run(matrix, grid, **options)
    inside = np.abs(grid) <= 5
    part = run(matrix, grid[inside], **options)
    np.testing.assert_allclose(part, whole[inside])
    assert np.trapezoid(part, grid[inside]) < 0.95


def test_seeds_and_operators_vmap(dtype):
    matrices = jnp.asarray([zoo.matrix("gapped"), zoo.matrix("ring")], dtype)
    grid = jnp.linspace(-5, 15, 50, dtype=dtype)

    def density(matrix, key):
        return dominant.spectral_density(
            zoo.matvec(matrix),
            zoo.like(zoo.SMALL, dtype),
            key=key,
            num_probes=3,
            num_steps=8,
            grid=grid,
            width=1.0,
        )

    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.vmap(density)(matrices, keys)
    alone = [density(m, k) for m, k in zip(matrices, keys, strict=True)]
    # eight Lanczos steps amplify rounding in the recurrence, not in the density
    np.testing.assert_allclose(together, alone, atol=1e3 * jnp.finfo(dtype).eps)
    assert not np.allclose(density(matrices[0], keys[1]), alone[0], atol=1e-3)


def test_a_network_with_a_frozen_counter_and_a_block(x64):
    """The density of one layer's Hessian; leaves that take no part are None."""
    problem = zoo.network("tanh-softmax")
    params = zoo.cast(problem.params, jnp.float64)
    data = zoo.cast(problem.data, jnp.float64)
    curvature = dominant.restrict(
        dominant.hessian(problem.loss_fn), lambda path, leaf: path[1].idx == 1
    )
    size = sum(leaf.size for leaf in jax.tree.leaves(params["layers"][1]))
    eigenvalues = np.linalg.eigvalsh(
        zoo.curvatures("tanh-softmax").hessian[-size:, -size:]
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
    found = run(matrix, jnp.linspace(-1, 1, 5), num_probes=2, num_steps=4)
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
