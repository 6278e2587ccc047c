r"""Gradient descent on one example, from many starts and at many learning rates.

In the coordinates p, the residual, and q = 2 / (eta |grad f|^2) a step is nearly
p <- (1 - 2 r(p) / q) p with q slow, r(z) = l'(z) / z, so that beyond the edge of
stability, q < 1, paths fall on the curve q = r(p) of the loss alone (Song and Yun,
2023, "Trajectory alignment", arXiv:2307.04204).

    python -m experiments.bifurcation --config=configs/trajectory_alignment/product.py \
        --workdir=FOLDER

All paths are one program, in float64.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments import at_once, records
from experiments.compilation import keep_compiled_programs, without_wrong_fusions
from experiments.losses import log_cosh_of_each
from experiments.names import lookup

# Losses l of the residual, convex and even, l''(0) = 1.


def square_root(z: Any) -> Any:
    """Return sqrt(1 + z^2) - 1, without the difference."""
    return z * z / (1 + jnp.sqrt(1 + z * z))


def half_square(z: Any) -> Any:
    """Return z^2 / 2: r = 1, so that there is no curve."""
    return 0.5 * z * z


class Loss(NamedTuple):
    """A loss, r(z) = l'(z) / z, and c in r(z) = 1 - c z^2 + ..."""

    function: Callable[[Any], Any]
    ratio: Callable[[Any], Any]
    c: float


def _ratio_of_log_cosh(z: Any) -> Any:
    safe = np.where(z == 0, 1, z)
    return np.where(z == 0, 1.0, np.tanh(safe) / safe)


LOSSES: Mapping[str, Loss] = {
    "log_cosh": Loss(log_cosh_of_each, _ratio_of_log_cosh, 1 / 3),
    "sqrt": Loss(square_root, lambda z: 1 / np.sqrt(1 + z * z), 1 / 2),
    "half_squared_error": Loss(half_square, np.ones_like, 0.0),
}


def ratio_of_neuron(z: Any) -> Any:
    """Return r(z) = phi(z) phi'(z) / z of the tanh neuron; c is 4/3."""
    safe = np.where(z == 0, 1, z)
    tanh = np.tanh(safe)
    return np.where(z == 0, 1.0, tanh * (1 - tanh**2) / safe)


NEURON_C = 4 / 3


# Models of one example. Their params, and how a start is made.


class Canonical(NamedTuple):
    """What is kept of a state: p, q, the loss, the Hessian's largest eigenvalue."""

    p: jax.Array
    q: jax.Array
    loss: jax.Array
    sharpness: jax.Array


class Model(NamedTuple):
    """A loss of params, and what is looked at.

    start: `(config, eta, (p, s)) -> params`, with the residual p and the sharpness
      s 2 / eta at p = 0. loss: of params. canonical: `(params, eta) -> Canonical`.
    """

    start: Callable[[ml_collections.ConfigDict, float, tuple[float, float]], Any]
    loss: Callable[[Any], jax.Array]
    canonical: Callable[[Any, jax.Array], Canonical]


def two_layer_linear(loss: Loss) -> Model:
    """The loss l(f) of f = x^T U v, x a unit input; with one neuron it is l(x y).

    p = f, S = |U^T x|^2 + |v|^2, q = 2 / (eta S).
    """

    def start(
        config: ml_collections.ConfigDict, eta: float, at: tuple[float, float]
    ) -> Any:
        p, s = at
        size = s / eta  # |U^T x|^2 = |v|^2
        if abs(p) > size:
            raise ValueError(
                f"a residual of {p} needs a sharpness of at least {abs(p) * eta}."
            )
        width = config.width
        if width == 1:
            # x and y from x y = p, x^2 + y^2 = S.
            plus, minus = np.sqrt(2 * size + 2 * p), np.sqrt(2 * size - 2 * p)
            return {"U": np.array([[(plus - minus) / 2]]), "v": [(plus + minus) / 2]}
        rng = np.random.default_rng(config.seed)
        v, other = np.linalg.qr(rng.normal(size=(width, 2)))[0].T
        along = p / size
        first = np.sqrt(size) * (along * v + np.sqrt(1 - along**2) * other)
        return {"U": first[None], "v": np.sqrt(size) * v}

    def residual(params: Any) -> jax.Array:
        # The input is the first unit vector: the other rows of U never move.
        return params["U"][0] @ params["v"]

    def canonical(params: Any, eta: jax.Array) -> Canonical:
        a, v = params["U"][0], params["v"]
        p, size = a @ v, a @ a + v @ v
        slope, bend = _derivatives(loss.function, p)
        # On the span of (v, a) and (a, v), orthogonal as their sum and difference:
        # l'' g g^T + l' (the swap of both layers). Elsewhere it is +- l'.
        plus, minus = size / 2 + p, size / 2 - p
        mixed = bend * jnp.sqrt(jnp.maximum(plus * minus, 0))
        first, second = bend * plus + slope, bend * minus - slope
        # The larger one of its two eigenvalues; it is never below the others.
        largest = (first + second) / 2 + jnp.hypot((first - second) / 2, mixed)
        return Canonical(p, 2 / (eta * size), loss.function(p), largest)

    return Model(start, lambda params: loss.function(residual(params)), canonical)


def tanh_neuron() -> Model:
    """L = (tanh(x) y)^2 / 2: p = x, q = 2 / (eta y^2)."""

    def start(
        config: ml_collections.ConfigDict, eta: float, at: tuple[float, float]
    ) -> Any:
        del config
        p, s = at
        return {"x": p, "y": np.sqrt(2 * s / eta)}

    def loss(params: Any) -> jax.Array:
        return 0.5 * (jnp.tanh(params["x"]) * params["y"]) ** 2

    def canonical(params: Any, eta: jax.Array) -> Canonical:
        flat = jnp.stack([params["x"], params["y"]])
        hessian = jax.hessian(lambda z: loss({"x": z[0], "y": z[1]}))(flat)
        largest = jnp.linalg.eigvalsh(hessian)[-1]
        q = 2 / (eta * params["y"] ** 2)
        return Canonical(params["x"], q, loss(params), largest)

    return Model(start, loss, canonical)


def _derivatives(function: Callable, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the first and the second one."""
    first = jax.grad(function)
    return jax.jvp(first, (z,), (jnp.ones_like(z),))


def model_of(config: ml_collections.ConfigDict, loss: str) -> Model:
    """Return the config's model with a loss.

    Raises:
      ValueError: if one of them is unknown.
    """
    makers = {"two_layer_linear": two_layer_linear, "tanh_neuron": None}
    make = lookup("model", config.model, makers)
    return tanh_neuron() if make is None else make(lookup("loss", loss, LOSSES))


def starts_of(
    config: ml_collections.ConfigDict,
) -> list[tuple[float, tuple[float, float]]]:
    """Return each path's learning rate and (p, s): all combinations of the config's.

    With `points`, of (x, y) of l(x y), these in the place of residuals and
    sharpnesses.
    """
    if config.points:
        return [
            (eta, (x * y, (x * x + y * y) * eta / 2))
            for eta, (x, y) in itertools.product(config.learning_rates, config.points)
        ]
    at = itertools.product(config.residuals, config.sharpnesses)
    return list(itertools.product(config.learning_rates, at))


def paths(config: ml_collections.ConfigDict, loss: str) -> dict[str, np.ndarray]:
    """Return p, q, loss and sharpness of each path, [steps + 1, paths], and eta.

    "loss/full" is the mean over the paths that are finite.
    """
    with jax.enable_x64(True):
        model, starts = model_of(config, loss), starts_of(config)
        etas = jnp.asarray([eta for eta, _ in starts])
        made = [model.start(config, eta, at) for eta, at in starts]
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *_arrays(made))

        def step(params: Any, _: Any) -> tuple[Any, Canonical]:
            seen = jax.vmap(model.canonical)(params, etas)
            gradients = jax.vmap(jax.grad(model.loss))(params)
            moved = jax.tree.map(
                lambda x, g: x - g * etas.reshape((-1, *[1] * (x.ndim - 1))),
                params,
                gradients,
            )
            return moved, seen

        scan = jax.jit(lambda p: jax.lax.scan(step, p, length=config.steps + 1)[1])
        seen = jax.tree.map(np.asarray, scan(params))
    finite = np.where(np.isfinite(seen.loss), seen.loss, np.nan)
    return {
        "loss/full": np.array([np.nanmean(row) for row in finite]),
        **{f"path/{name}": getattr(seen, name) for name in Canonical._fields},
        "path/learning_rate": np.tile(np.asarray(etas), (config.steps + 1, 1)),
    }


def _arrays(trees: Sequence[Any]) -> list[Any]:
    return [
        {name: jnp.asarray(value, jnp.float64) for name, value in tree.items()}
        for tree in trees
    ]


def run(
    config: ml_collections.ConfigDict, workdir: str, argv: Sequence[str] = ()
) -> dict[str, Any]:
    """Run every loss of a config, a branch each, and leave the records in `workdir`.

    Args:
      config: with the fields of configs/trajectory_alignment/product.py.
      workdir: the run's folder; one that was interrupted starts again.
      argv: the command line, for the provenance.

    Returns:
      The final status, as in status.json.

    Raises:
      ForeignWorkdirError: if `workdir` holds another config's run; it stays untouched.
      ValueError: if a config field is out of range.
    """
    check(config)
    branches = {loss: functools.partial(paths, config, loss) for loss in config.losses}
    return at_once.run(config, workdir, argv, branches)


def check(config: ml_collections.ConfigDict) -> None:
    """Raise ValueError for a config that cannot be run."""
    for field in ("steps", "log_every", "width"):
        if config[field] < 1:
            raise ValueError(f"{field} must be at least 1, got {config[field]}.")
    if not all(s > 0 for s in config.sharpnesses):
        raise ValueError(f"sharpnesses must be positive, got {config.sharpnesses}.")
    if config.model == "tanh_neuron":
        alone = {"losses": ("half_squared_error",), "width": 1, "points": ()}
        for field, value in alone.items():
            if config[field] != value:
                raise ValueError(f"a tanh_neuron has {field} = {value}, no other.")
    for loss in config.losses:
        model = model_of(config, loss)
        for eta, at in starts_of(config):
            if not eta > 0:
                raise ValueError(f"learning_rates must be positive, got {eta}.")
            model.start(config, eta, at)
    if config.points and config.width != 1:
        raise ValueError("points are of l(x y): they need width = 1.")


def main(argv: list[str]) -> None:
    """Run the command."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    without_wrong_fusions()
    keep_compiled_programs()
    workdir = str(_WORKDIR.value)
    try:
        status = run(_CONFIG.value, workdir, sys.argv)
    except (records.ForeignWorkdirError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(
        f"status: {status['status']}, {status['seconds']:.0f} s; records in {workdir}"
    )


# Not on import: two commands of one process would both define them.
if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file(
        "config", None, "Such as configs/trajectory_alignment/product.py."
    )
    _WORKDIR = flags.DEFINE_string("workdir", None, "Where the run's records go.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
