"""Base optimizers from a config: the update before anything is projected.

Functions here take the sub-config `optimizer` of configs/defaults.py. With theta the
params, g what reaches the optimizer, eta the learning rate, m^ and v^ moments with
Adam's bias correction, an update (what is added to the params) is

    sgd, gd      -eta g; for gd the loop takes g of the full batch (`is_full_batch`)
    heavy_ball   m <- momentum m + g, no dampening; -eta m            Polyak (1964)
    nesterov     m as before; -eta (g + momentum m)         Sutskever et al. (2013)
    adam         -eta m^ / (sqrt(v^) + eps)                    Kingma and Ba (2015)
    adamw        adam's - eta weight_decay theta       Loshchilov and Hutter (2019)
    rmsprop      v <- a v + (1 - a) g^2, a = rmsprop_decay;
                 -eta g / (sqrt(v) + eps)                             Hinton (2012)
    muon         `muon` below                                         Jordan (2024)

g is the gradient, clipped to norm clip_norm, plus weight_decay theta: an L2 penalty of
weight_decay |theta|^2 / 2, which neither the task's loss nor its curvature contains.
adamw and muon decouple the decay instead: the update gets -eta weight_decay theta. With
sam_rho > 0 the gradient is the one at theta + sam_rho g / |g| (`sam`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import optax
from optax import contrib

import dominant
from experiments.names import lookup
from experiments.optimizers.fields import require, require_defaults
from experiments.optimizers.schedules import Rates, learning_rate


class _Recipe(NamedTuple):
    """`make(config, rate)`, and the fields of the config that it alone reads."""

    make: Callable[
        [ml_collections.ConfigDict, optax.Schedule], optax.GradientTransformation
    ]
    reads: tuple[str, ...] = ()


def _sgd(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    del config
    return optax.sgd(rate)


def _heavy_ball(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    return optax.sgd(rate, config.momentum)


def _nesterov(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    return optax.sgd(rate, config.momentum, nesterov=True)


def _adam(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    return optax.adam(rate, config.b1, config.b2, config.eps)


def _adamw(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    require(
        config.weight_decay > 0,
        "adamw needs optimizer.weight_decay > 0; without decay it is adam.",
    )
    return optax.adamw(
        rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay
    )


def _rmsprop(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    return optax.rmsprop(rate, config.rmsprop_decay, config.eps, eps_in_sqrt=False)


def muon(
    config: ml_collections.ConfigDict, rate: optax.Schedule
) -> optax.GradientTransformation:
    """Momentum, orthogonalized by five Newton-Schulz steps (Jordan, 2024), as in optax.

    Matrices [in, out], embeddings among them, and convolution kernels [height, width,
    in, out] as matrices [height width in, out], have updates
    -eta sqrt(max(1, columns / rows)) O. O has the singular vectors of Nesterov's
    momentum (the average m <- momentum m + (1 - momentum) g, bias-corrected) and
    singular values near 1, in about [0.5, 1.5]; those of a nearly singular m stay
    smaller. All other leaves get Adam with Nesterov momentum (b1, b2, eps), at the same
    learning rate.
    """

    def matrix_axes(params: Any) -> Any:
        def axes(leaf: Any) -> contrib.MuonDimensionNumbers | None:
            if leaf.ndim not in (2, 4):
                return None
            return contrib.MuonDimensionNumbers(
                tuple(range(leaf.ndim - 1)), leaf.ndim - 1
            )

        return jax.tree.map(axes, params)

    return contrib.muon(
        rate,
        beta=config.momentum,
        eps=config.eps,
        weight_decay=config.weight_decay,
        adam_b1=config.b1,
        adam_b2=config.b2,
        adam_weight_decay=config.weight_decay,
        muon_weight_dimension_numbers=matrix_axes,
    )


OPTIMIZERS: Mapping[str, _Recipe] = {
    "adam": _Recipe(_adam, ("b1", "b2", "eps")),
    "adamw": _Recipe(_adamw, ("b1", "b2", "eps")),
    "gd": _Recipe(_sgd),
    "heavy_ball": _Recipe(_heavy_ball, ("momentum",)),
    "muon": _Recipe(muon, ("momentum", "b1", "b2", "eps")),
    "nesterov": _Recipe(_nesterov, ("momentum",)),
    "rmsprop": _Recipe(_rmsprop, ("rmsprop_decay", "eps")),
    "sgd": _Recipe(_sgd),
}
_DECOUPLED_DECAY = ("adamw", "muon")


def _edge_of_gradient_descent(momentum: float) -> float:
    del momentum
    return 2.0


_ALWAYS = 2**31 - 2
"""How many gradients in a row may be left out."""

EDGES: Mapping[str, Callable[[float], float]] = {
    "sgd": _edge_of_gradient_descent,
    "gd": _edge_of_gradient_descent,
    "heavy_ball": lambda beta: 2 * (1 + beta),
    "nesterov": lambda beta: 2 * (1 + beta) / (1 + 2 * beta),
}
"""The largest stable curvature times the learning rate, by the momentum.

Of the optimizers that have one in terms of the Hessian alone (Cohen et al. 2021,
arXiv:2103.00065).
"""


def is_full_batch(config: ml_collections.ConfigDict) -> bool:
    """Return whether each step takes the gradient of the full training loss."""
    return bool(config.name == "gd")


def base_optimizer(
    config: ml_collections.ConfigDict, num_steps: int, rates: Rates | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer that `config.name` names, with schedule, clipping and decay.

    Args:
      config: `optimizer` of configs/defaults.py.
      num_steps: the run's steps, which the learning-rate schedule spans.
      rates: the schedule's numbers, traced ones perhaps; None: the config's.

    Returns:
      A transformation whose update needs params, and with SAM the extra argument
      `grad_fn`; it ignores other extra arguments.

    Raises:
      ValueError: if a name is unknown, a field is out of range, or a field is set that
        this optimizer does not read.
    """
    recipe = lookup("optimizer.name", config.name, OPTIMIZERS)
    owned = {name for other in OPTIMIZERS.values() for name in other.reads}
    unread = sorted(owned - set(recipe.reads))
    require_defaults(config, "optimizer", unread, f"optimizer {config.name!r}")
    _require_ranges(config, recipe)
    parts = []
    if config.clip_norm:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.weight_decay and config.name not in _DECOUPLED_DECAY:
        parts.append(optax.add_decayed_weights(config.weight_decay))
    parts.append(recipe.make(config, learning_rate(config, num_steps, rates)))
    tx = optax.chain(*parts)
    if config.sam_rho:
        tx = sam(tx, config.sam_rho)
    return optax.apply_if_finite(tx, _ALWAYS) if config.skip_not_finite else tx


def sam(
    inner: optax.GradientTransformation, rho: float
) -> optax.GradientTransformationExtraArgs:
    """Hand `inner` the gradient at theta + rho g / |g|: sharpness-aware minimization.

    One ascent and one descent on the same batch (Foret et al., 2021, algorithm 1), both
    within one update; where g = 0 there is no ascent. `inner` sees the perturbed
    gradient and the unperturbed params.

    Returns:
      A transformation whose update needs params and the extra argument
      `grad_fn(params, _) -> gradient` on the step's batch, and ignores other ones.
    """
    # optax flips the sign of the ascent, which it expects to be a descent.
    descent = optax.normalize_by_update_norm(scale_factor=-rho, eps=1e-12)
    return dominant.with_extra_args_only(
        contrib.sam(inner, descent, opaque_mode=True), ["grad_fn"]
    )


def _require_ranges(config: ml_collections.ConfigDict, recipe: _Recipe) -> None:
    if "momentum" in recipe.reads:
        require(
            0 < config.momentum < 1,
            f"{config.name} needs optimizer.momentum between 0 and 1, both excluded, "
            f"got {config.momentum}.",
        )
    for name in ("b1", "b2", "rmsprop_decay"):
        value = config[name]
        require(0 <= value < 1, f"optimizer.{name} must be in [0, 1), got {value}.")
    for name in ("eps", "clip_norm", "weight_decay", "sam_rho"):
        value = config[name]
        require(value >= 0, f"optimizer.{name} must be at least 0, got {value}.")
