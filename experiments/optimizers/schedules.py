"""Learning-rate schedules from a config, each an optax schedule.

With eta the learning rate, T the run's number of steps, f = final_fraction and
t = 0, .., T - 1 the number of updates already made:

    constant       eta
    linear         eta (1 - (1 - f) t / T)
    cosine         eta (f + (1 - f) (1 + cos(pi t / T)) / 2)
    warmup_cosine  eta t / W up to W = warmup_steps (the first update is zero), then
                   cosine over the other T - W steps
    piecewise      eta drop_factor^n, where n of the drop_steps are at most t; a factor
                   above 1 raises it
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from experiments.names import lookup
from experiments.optimizers.fields import require, require_defaults


class Rates(NamedTuple):
    """The numbers of a schedule that may be traced: one program serves them all."""

    learning_rate: Any
    drop_factor: Any


class _Recipe(NamedTuple):
    """`make(config, num_steps, factor)`, and the fields that it alone reads.

    The schedule is in units of eta; `factor` is that of each drop.
    """

    make: Callable[[ml_collections.ConfigDict, int, Any], optax.Schedule]
    reads: tuple[str, ...] = ()


def _constant(
    config: ml_collections.ConfigDict, num_steps: int, factor: Any
) -> optax.Schedule:
    del config, num_steps, factor
    return optax.constant_schedule(1.0)


def _linear(
    config: ml_collections.ConfigDict, num_steps: int, factor: Any
) -> optax.Schedule:
    del factor
    return optax.linear_schedule(1.0, config.final_fraction, num_steps)


def _cosine(
    config: ml_collections.ConfigDict, num_steps: int, factor: Any
) -> optax.Schedule:
    del factor
    return optax.cosine_decay_schedule(1.0, num_steps, alpha=config.final_fraction)


def _warmup_cosine(
    config: ml_collections.ConfigDict, num_steps: int, factor: Any
) -> optax.Schedule:
    del factor
    warmup_steps = config.warmup_steps
    require(
        0 < warmup_steps < num_steps,
        "warmup_cosine needs optimizer.warmup_steps between 1 and steps - 1 = "
        f"{num_steps - 1}, got {warmup_steps}.",
    )
    return optax.warmup_cosine_decay_schedule(
        0.0, 1.0, warmup_steps, num_steps, end_value=config.final_fraction
    )


def _piecewise(
    config: ml_collections.ConfigDict, num_steps: int, factor: Any
) -> optax.Schedule:
    drops = tuple(config.drop_steps)
    require(
        bool(drops)
        and all(0 < step < num_steps for step in drops)
        and sorted(set(drops)) == list(drops),
        "piecewise needs increasing optimizer.drop_steps between 1 and steps - 1 = "
        f"{num_steps - 1}, got {drops}.",
    )

    # optax's own asks whether its factors are positive: not of a traced one.
    def schedule(count: jax.Array) -> jax.Array:
        num_drops = jnp.sum(jnp.asarray(drops) <= count)
        return jnp.power(jnp.float32(factor), num_drops)

    return schedule


SCHEDULES: Mapping[str, _Recipe] = {
    "constant": _Recipe(_constant),
    "cosine": _Recipe(_cosine, ("final_fraction",)),
    "linear": _Recipe(_linear, ("final_fraction",)),
    "piecewise": _Recipe(_piecewise, ("drop_steps", "drop_factor")),
    "warmup_cosine": _Recipe(_warmup_cosine, ("warmup_steps", "final_fraction")),
}


def rates(config: ml_collections.ConfigDict) -> Rates:
    """Return the numbers of the config's schedule."""
    return Rates(config.learning_rate, config.drop_factor)


def learning_rate(
    config: ml_collections.ConfigDict, num_steps: int, numbers: Rates | None = None
) -> optax.Schedule:
    """Return the learning rate as a function of the updates already made.

    Args:
      config: `optimizer` of configs/defaults.py.
      num_steps: the run's steps, over which the schedules that decay do so.
      numbers: what to take in the place of the config's own; may be traced.

    Raises:
      ValueError: if the schedule is unknown, a field is out of range, or a field is set
        that this schedule does not read.
    """
    recipe = lookup("optimizer.schedule", config.schedule, SCHEDULES)
    owned = {name for other in SCHEDULES.values() for name in other.reads}
    unread = sorted(owned - set(recipe.reads))
    require_defaults(config, "optimizer", unread, f"schedule {config.schedule!r}")
    eta = config.learning_rate
    require(eta > 0, f"optimizer.learning_rate must be positive, got {eta}.")
    fraction, factor = config.final_fraction, config.drop_factor
    require(
        0 <= fraction <= 1,
        f"optimizer.final_fraction must be in [0, 1], got {fraction}.",
    )
    require(factor >= 0, f"optimizer.drop_factor must be at least 0, got {factor}.")
    peak, drop = rates(config) if numbers is None else numbers
    shape = recipe.make(config, num_steps, drop)
    return lambda count: peak * shape(count)
