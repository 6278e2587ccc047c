"""Many seeds of one optimizer on the toy quadratic, in one program.

L(theta) = 1/2 (lambda |x|^2 + mu |y|^2): x are the dominant coordinates, y those of the
bulk. Each step sees L plus a term of mean zero (`NOISES`): Song, Ahn and Yun (2025),
Sec. 4. Moments over the seeds are kept, and a few paths.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

import dominant
from experiments.names import lookup


class Noise(NamedTuple):
    """What the loss of a step has beyond L.

    term: (theta [n], a seed's draw, scale) -> scalar; its mean over draws is 0.
    draw: (key, (seeds, n)) -> the draws of all seeds for one step.
    """

    term: Callable[[jax.Array, jax.Array, float], jax.Array]
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array]


NOISES: Mapping[str, Noise] = {
    # +- c x y, the paper's: the noise in the gradient of x is +- c y.
    "sign": Noise(
        lambda theta, draw, scale: scale * draw * theta[0] * theta[1],
        lambda key, shape: jax.random.rademacher(key, shape[:1], dtype=float),
    ),
    # s <xi, theta>: the gradient's noise has standard deviation s in each coordinate.
    "gaussian": Noise(
        lambda theta, draw, scale: scale * jnp.sum(draw * theta),
        lambda key, shape: jax.random.normal(key, shape),
    ),
}

MODES: Mapping[str, Callable[[float], optax.GradientTransformation]] = {
    "plain": optax.sgd,
    "dom": lambda lr: optax.chain(optax.sgd(lr), dominant.dom_project()),
    "bulk": lambda lr: optax.chain(optax.sgd(lr), dominant.bulk_project()),
    "gd": optax.sgd,  # without the noise
}


def eigenvalues(quadratic: ml_collections.ConfigDict) -> np.ndarray:
    """Return the diagonal of the Hessian, [n], largest first."""
    counts = (quadratic.num_dominant, quadratic.num_bulk)
    return np.repeat([float(quadratic.dominant), float(quadratic.bulk)], counts)


def exact_subspace(quadratic: ml_collections.ConfigDict) -> dominant.Subspace:
    """Return the dominant space, here that of the first coordinates, without error."""
    values = jnp.asarray(eigenvalues(quadratic))
    k = quadratic.num_dominant
    return dominant.Subspace(
        eigenvalues=values[:k],
        basis=jnp.eye(len(values))[:k],
        residuals=jnp.zeros(k),
        next_eigenvalue=values[k],
        next_residual=jnp.zeros(()),
        num_matvecs=jnp.zeros((), jnp.int32),
    )


def full_loss(theta: jax.Array, diagonal: jax.Array) -> jax.Array:
    """Return L = 1/2 sum_i lambda_i theta_i^2."""
    return jnp.sum(diagonal * theta**2) / 2


def trajectories(
    config: ml_collections.ConfigDict, mode: str, start: Sequence[float]
) -> dict[str, np.ndarray]:
    """Run all seeds of one mode in one program; every mode meets the same draws.

    Args:
      config: with the fields of configs/tiny_subspaces/toy_quadratic.py.
      mode: one of `MODES`; "gd" has no noise, and one seed.
      start: of each dominant coordinate, and of each one of the bulk.

    Returns:
      The metrics of `measure` by their names, before the first step, after one, ...:
      [steps + 1, ...].

    Raises:
      ValueError: if there is no such mode or noise.
    """
    make = lookup("mode", mode, MODES)
    noise = lookup("noise", config.noise.name, NOISES)
    tx = optax.with_extra_args_support(make(config.learning_rate))
    quadratic = config.quadratic
    diagonal = jnp.asarray(eigenvalues(quadratic))
    counts = np.array([quadratic.num_dominant, quadratic.num_bulk])
    theta = jnp.asarray(np.repeat(np.array(start, float), counts))
    num_seeds = 1 if mode == "gd" else config.seeds
    scale = 0.0 if mode == "gd" else config.noise.scale

    def program(
        thetas: jax.Array, key: jax.Array, diagonal: jax.Array, subspace: Any
    ) -> dict[str, jax.Array]:
        def one_step(
            theta: jax.Array, state: Any, draw: jax.Array
        ) -> tuple[jax.Array, Any]:
            def step_loss(theta: jax.Array) -> jax.Array:
                return full_loss(theta, diagonal) + noise.term(theta, draw, scale)

            gradient = jax.grad(step_loss)(theta)
            updates, state = tx.update(gradient, state, theta, subspace=subspace)
            return optax.apply_updates(theta, updates), state

        # An optimizer's state here is a count at most, the same for all seeds.
        all_seeds = jax.vmap(one_step, in_axes=(0, None, 0), out_axes=(0, None))

        def step(carry: tuple[jax.Array, Any], t: jax.Array) -> tuple:
            thetas, state = carry
            metrics = measure(thetas, diagonal, subspace, config.num_paths)
            draws = noise.draw(jax.random.fold_in(key, t), thetas.shape)
            return all_seeds(thetas, state, draws), metrics

        # One more step than asked for: it measures where the last one led.
        steps = jnp.arange(config.steps + 1)
        return jax.lax.scan(step, (thetas, tx.init(thetas[0])), steps)[1]

    metrics = jax.jit(program)(
        jnp.tile(theta, (num_seeds, 1)),
        jax.random.key(config.seed),
        diagonal,
        exact_subspace(quadratic),
    )
    return {name: np.asarray(values) for name, values in metrics.items()}


def measure(
    thetas: jax.Array, diagonal: jax.Array, subspace: dominant.Subspace, num_paths: int
) -> dict[str, jax.Array]:
    """Return what is kept of one step, from the parameters [seeds, n] before it.

    Means over the seeds, each with its standard error under NAME_error: loss/full, E L;
    toy/x2 and toy/y2, E|x|^2 and E|y|^2; toy/xy, E x_1 y_1; toy/chi, E chi_k(g), and
    toy/energy_ratio, E|P_k g|^2 / E|g|^2, of the gradient g of L (0 for g = 0).
    toy/y_min and toy/y_max: of all bulk coordinates of all seeds. toy/path_x and
    toy/path_y: x_1 and y_1 of the first num_paths seeds.
    """
    k = subspace.eigenvalues.shape[0]
    x, y = thetas[:, :k], thetas[:, k:]
    over_seeds = (0, None)
    losses, gradients = jax.vmap(jax.value_and_grad(full_loss), over_seeds)(
        thetas, diagonal
    )
    chi = jax.vmap(dominant.alignment, over_seeds)(gradients, subspace)
    averaged = {
        "loss/full": losses,
        "toy/x2": jnp.sum(x**2, axis=1),
        "toy/y2": jnp.sum(y**2, axis=1),
        "toy/xy": x[:, 0] * y[:, 0],
        "toy/chi": chi,
    }
    root = len(thetas) ** 0.5
    metrics = {}
    for name, values in averaged.items():
        metrics[name] = jnp.mean(values)
        metrics[f"{name}_error"] = jnp.std(values) / root
    energies = jnp.sum(gradients**2, axis=1)
    energy = jnp.mean(energies)
    safe = jnp.where(energy == 0, 1, energy)
    ratio = jnp.mean(chi**2 * energies) / safe
    # Of a ratio of means, to first order.
    ratio_error = jnp.std((chi**2 - ratio) * energies) / safe / root
    return metrics | {
        "toy/energy_ratio": ratio,
        "toy/energy_ratio_error": ratio_error,
        "toy/y_min": jnp.min(y),
        "toy/y_max": jnp.max(y),
        "toy/path_x": x[:num_paths, 0],
        "toy/path_y": y[:num_paths, 0],
    }
