"""The spectral density of a symmetric operator."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dominant import pytrees
from dominant.curvature import Matvec
from dominant.lanczos import tridiagonalize


class Quadrature(NamedTuple):
    """Weighted nodes that stand for the eigenvalues of an operator, probe by probe.

    nodes: [probes, m] Ritz values theta_j. weights: [probes, m], tau_j >= 0, which add
    up to 1 for each probe: the share of the eigenvalues around theta_j.
    """

    nodes: jax.Array
    weights: jax.Array


def spectral_density(
    matvec: Matvec,
    like: Any,
    *,
    key: jax.Array,
    num_probes: int,
    num_steps: int,
    grid: jax.Array,
    width: float | jax.Array | None = None,
) -> jax.Array:
    """Return the smoothed density of eigenvalues, by stochastic Lanczos quadrature.

    With the n eigenvalues lambda_i of the operator and a Gaussian kernel N it estimates

        phi(t) = (1/n) sum_i N(t; lambda_i, width^2).

    Each probe is a random unit vector v. Lanczos from v gives a tridiagonal T, whose
    eigenvalues theta_j, weighted with the squared first entries tau_j of its
    eigenvectors, stand for the eigenvalues weighted with (v^T u_i)^2 (Golub and Welsch
    1969; Lin, Saad and Yang 2016; Ghorbani, Krishnan and Xiao 2019):

        phi(t) = mean over the probes of sum_j tau_j N(t; theta_j, width^2).

    The weights of a probe add up to 1, so phi integrates to 1 over the real line, and
    over a grid to the fraction of the spectrum inside: the density is not rescaled on a
    grid that is too narrow.

    Two errors: the quadrature of each probe integrates polynomials up to degree
    2 num_steps - 1 exactly, so it resolves structure down to about the default width in
    the middle of the spectrum, finer at its ends, and outliers sharply; with num_steps
    = n it is exact. And the probes are random: a part of the spectrum with a fraction f
    of the eigenvalues gets a mass of mean f and variance 2 f (1 - f) / (n + 2) /
    num_probes. For a multiple of the identity there is no such error.

    Memory: num_probes x num_steps vectors, and num_probes products at a time; fewer
    probes a call, averaged over calls with different keys, give the same estimate.

    Args:
      matvec: product with a symmetric operator on trees shaped like `like`.
      like: a tree that gives shapes, dtypes and sharding, e.g. the params, or
        `domain(curvature, params)`. Non-floating leaves take no part.
      key: for the probes.
      num_probes: random vectors.
      num_steps: Lanczos steps a probe; num_probes x num_steps products in all.
      grid: [g], the t, in the eigenvalues' unit.
      width: standard deviation of the kernel, in the same unit. None: the range of the
        Ritz values of all probes divided by num_steps, about 2/3 of the distance of
        neighbouring Ritz values in the middle of a spectrum without outliers; at least
        the grid's mean spacing, so that no peak falls between its points. Where
        outliers stretch the range, choose a width for the bulk instead.

    Returns:
      [g], the density, in one over the eigenvalues' unit.

    Raises:
      ValueError: if num_probes < 1, num_steps is not between 1 and the number of
        parameters, grid is not one-dimensional or too short for a default width, or
        width is a number that is not positive.
    """
    grid = jnp.asarray(grid, pytrees.scalar_dtype(pytrees.floating(like)))
    _check_grid(grid, width)
    rule = spectral_quadrature(
        matvec, like, key=key, num_probes=num_probes, num_steps=num_steps
    )
    if width is None:
        spacing = (jnp.max(grid) - jnp.min(grid)) / (grid.size - 1)
        resolution = (jnp.max(rule.nodes) - jnp.min(rule.nodes)) / num_steps
        width = jnp.maximum(resolution, spacing)
    return smoothed_density(rule, grid, width=width)


def spectral_quadrature(
    matvec: Matvec, like: Any, *, key: jax.Array, num_probes: int, num_steps: int
) -> Quadrature:
    """Return the nodes and weights that `spectral_density` smooths; see there.

    For whoever smooths them otherwise: over log |t|, say, or with several widths. The
    mean over the probes of sum_j tau_j f(theta_j) estimates (1/n) sum_i f(lambda_i),
    for a polynomial f of degree 2 num_steps - 1 or less without any error but that of
    the probes. Nodes without weight lie inside the spectrum.

    Args:
      matvec: product with a symmetric operator on trees shaped like `like`.
      like: a tree that gives shapes, dtypes and sharding.
      key: for the probes.
      num_probes: random vectors.
      num_steps: Lanczos steps a probe; num_probes x num_steps products in all.

    Raises:
      ValueError: if num_probes < 1, or num_steps is not between 1 and the number of
        parameters.
    """
    if num_probes < 1:
        raise ValueError(f"num_probes must be at least 1, got {num_probes}.")
    vector = pytrees.floating(like)

    def decompose(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = pytrees.random_normal(key, vector)
        result = tridiagonalize(matvec, start, num_steps)
        return result.diagonal, result.off_diagonal

    diagonals, off_diagonals = jax.vmap(decompose)(jax.random.split(key, num_probes))
    # Not vmapped: on a CPU, jaxlib 0.10 waits for the batch in a thread of the pool
    # that has to work on it, and several such calls at once wait forever.
    rules = jax.lax.map(lambda t: _quadrature(*t), (diagonals, off_diagonals))
    return Quadrature(*rules)


def smoothed_density(
    quadrature: Quadrature, grid: jax.Array, *, width: float | jax.Array
) -> jax.Array:
    """Return the mean over the probes of sum_j tau_j N(t; theta_j, width^2).

    Args:
      quadrature: nodes and weights; the nodes may have been mapped, e.g. to
        asinh(theta / c), a logarithm on both sides of zero. The density is then that of
        the mapped eigenvalues.
      grid: [g], the t, in the nodes' unit.
      width: standard deviation of the kernel, in the same unit.

    Returns:
      [g], in one over the nodes' unit.

    Raises:
      ValueError: if grid is not one-dimensional, or width is a number that is not
        positive.
    """
    grid = jnp.asarray(grid, quadrature.nodes.dtype)
    _check_grid(grid, width)
    width = jnp.asarray(width, grid.dtype)

    def smooth(rule: tuple[jax.Array, jax.Array]) -> jax.Array:
        theta, tau = rule
        distances = (grid[:, None] - theta[None, :]) / width  # [g, steps]
        return jnp.sum(tau * jnp.exp(-(distances**2) / 2), axis=1)

    # One probe at a time: [probes, g, steps] could outgrow everything else.
    total = jnp.mean(jax.lax.map(smooth, tuple(quadrature)), axis=0)
    return total / (width * (2 * jnp.pi) ** 0.5)


def _quadrature(
    diagonal: jax.Array, off_diagonal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the nodes and weights, [m] each, of the Gauss rule of a tridiagonal T.

    Where the Krylov space was exhausted, the rest of T is zero. It has no weight, but
    it would put nodes at 0: move them to a place inside the spectrum.
    """
    first = jnp.ones(1, bool)
    used = jnp.cumprod(jnp.append(first, off_diagonal != 0).astype(jnp.int32)) > 0
    diagonal = jnp.where(used, diagonal, diagonal[0])
    matrix = jnp.diag(diagonal) + jnp.diag(off_diagonal, 1) + jnp.diag(off_diagonal, -1)
    nodes, vectors = jnp.linalg.eigh(matrix)
    return nodes, vectors[0] ** 2


def _check_grid(grid: jax.Array, width: Any) -> None:
    if grid.ndim != 1:
        raise ValueError(f"grid must have one axis, got shape {grid.shape}.")
    if width is None and grid.size < 2:
        raise ValueError("a grid of less than two points needs a `width`, got None.")
    if isinstance(width, int | float) and not width > 0:
        raise ValueError(f"width must be positive, got {width}.")
