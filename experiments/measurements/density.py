"""Spectral densities: of H = G + F and its parts, and of a block of the Hessian.

By Lanczos quadrature (`dominant.spectral_quadrature`), on a grid that is uniform in x =
asinh(t / c) with c a thousandth of the largest |Ritz value|, linear in t below c and
logarithmic above, both ways, and reaches beyond that value. The t are logged, in the
unit of eigenvalues, and so is c. Densities are those of x, smoothed with a Gaussian of
standard deviation 0.25: each integrates to 1 over x, and divided by sqrt(t^2 + c^2) it
is a density over t.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

import dominant
from experiments.measurements.blocks import row_or_block
from experiments.measurements.energy import MATRICES, matvecs
from experiments.measurements.record import Metrics, Record, Setting

PROBES, STEPS = 2, 40
"""Lanczos runs for the density of each matrix, and their steps."""

_LINEAR_BELOW = 1e-3
_KERNEL_WIDTH = 0.25
_GRID_SIZE = 121


def density(record: Record, setting: Setting) -> Metrics:
    """The spectral densities of H, G and F on one grid.

    2 runs of 40 steps for each matrix from the same 2 random vectors: 240 products, and
    memory for 80 vectors.
    """
    like = dominant.domain(setting.curvature, record.params)
    hessian = setting.curvature(record.params, setting.curvature_data)
    # One matrix after another: their vectors do not have to fit in memory together.
    runs = [
        functools.partial(_quadrature, matvec, like, record.key)
        for matvec in (hessian, *matvecs(record, setting))
    ]
    rules = jax.lax.map(lambda i: jax.lax.switch(i, runs), jnp.arange(len(runs)))
    found, smoothed = _smoothed(rules)
    metrics = {f"density/{key}": value for key, value in found.items()}
    for i, name in enumerate(MATRICES):
        metrics[f"density/over_x_{name}"] = smoothed[i]
    return metrics


def block_density(record: Record, setting: Setting) -> Metrics:
    """The spectral density of the Hessian of one block, beside `blocks`.

    The first of the blocks that are looked at, of its rows the first one, and of the
    sets of examples the first: 80 products with that block.
    """
    matvec, like = row_or_block(record, setting)
    rule = _quadrature(matvec, like, record.key)
    found, smoothed = _smoothed(jax.tree.map(lambda x: x[None], rule))
    metrics = {f"block_density/{key}": value for key, value in found.items()}
    return metrics | {"block_density/over_x": smoothed[0]}


def _quadrature(matvec: dominant.Matvec, like: Any, key: jax.Array) -> Any:
    steps = min(STEPS, optax.tree.size(like))
    return dominant.spectral_quadrature(
        matvec, like, key=key, num_probes=PROBES, num_steps=steps
    )


def _smoothed(rules: dominant.Quadrature) -> tuple[Metrics, list[jax.Array]]:
    """Return the grid and c, and the density over x of each rule on a leading axis."""
    scale = _LINEAR_BELOW * jnp.max(jnp.abs(rules.nodes))
    reach = jnp.arcsinh(1 / _LINEAR_BELOW) + 4 * _KERNEL_WIDTH
    grid = jnp.linspace(-reach, reach, _GRID_SIZE)
    mapped = rules._replace(nodes=jnp.arcsinh(rules.nodes / scale))
    densities = [
        dominant.smoothed_density(
            jax.tree.map(lambda x, i=i: x[i], mapped), grid, width=_KERNEL_WIDTH
        )
        for i in range(len(rules.nodes))
    ]
    return {"grid": scale * jnp.sinh(grid), "linear_below": scale}, densities
