"""How bent the loss is along the path, and how unevenly: for small networks."""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from experiments.measurements.record import Metrics, Record, Setting

LARGEST_DENSE = 3000
"""Parameters; `conditioning` makes the whole Hessian."""


def smoothness(record: Record, setting: Setting) -> Metrics:
    """Delta^T H Delta / |Delta|^2, the directional smoothness, |Delta| and |g|.

    Of the training loss and the update Delta (Pan and Li 2023, arXiv:2306.00204). NaN
    for Delta = 0. One product.
    """
    matvec = setting.curvature(record.params, setting.curvature_data)
    updates = record.updates
    square = optax.tree.norm(updates, squared=True)
    bent = optax.tree.vdot(updates, matvec(updates))
    return {
        "smoothness/directional": bent / square,
        "smoothness/update_norm": jnp.sqrt(square),
        "smoothness/gradient_norm": optax.tree.norm(record.gradient),
    }


def conditioning(record: Record, setting: Setting) -> Metrics:
    """Robust condition numbers of H, by its eigenvalues and by its diagonal.

    - by_eigenvalues, lambda_max / median |lambda|, and by_diagonal, max |H_ii| / median
      |H_ii| (Jiang et al. 2022, arXiv:2211.02254; the latter is what their code and
      that of Ahn et al. 2024 compute);
    - norm, the largest |lambda|; smallest, the smallest eigenvalue.

    The Hessian of the training loss is made whole: as many products as parameters.
    """
    flat, unflatten = ravel_pytree(record.params)
    matvec = setting.curvature(record.params, setting.curvature_data)

    def column(v: jax.Array) -> jax.Array:
        return ravel_pytree(matvec(unflatten(v)))[0]

    # One column after the other: a product each, whatever the memory.
    matrix = jax.lax.map(column, jnp.eye(flat.size, dtype=flat.dtype))
    values = jnp.linalg.eigvalsh((matrix + matrix.T) / 2)
    diagonal, sizes = jnp.abs(jnp.diagonal(matrix)), jnp.abs(values)
    return {
        "conditioning/by_eigenvalues": values[-1] / jnp.median(sizes),
        "conditioning/by_diagonal": jnp.max(diagonal) / jnp.median(diagonal),
        "conditioning/norm": jnp.max(sizes),
        "conditioning/smallest": values[0],
    }


def check_size(num_parameters: int) -> None:
    """Raise ValueError where `conditioning` would make too large a matrix."""
    if num_parameters > LARGEST_DENSE:
        raise ValueError(
            "measure.conditioning makes the whole Hessian: of at most "
            f"{LARGEST_DENSE:,} parameters, not of {num_parameters:,}."
        )
