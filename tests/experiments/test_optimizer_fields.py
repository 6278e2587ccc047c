"""Learning-rate schedules, and what each field of config.optimizer does."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import defaults
from experiments import optimizers
from experiments.optimizers.schedules import SCHEDULES

NUM_STEPS = 10


def settings(**fields):
    config = defaults.get_config().optimizer
    config.learning_rate = 0.3
    config.update(fields)
    return config


# --- schedules ------------------------------------------------------------------------


def cosine(t, length, final):
    return final + (1 - final) * (1 + np.cos(np.pi * t / length)) / 2


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "constant"}, lambda t: np.ones(NUM_STEPS)),
        (
            {"schedule": "linear", "final_fraction": 0.2},
            lambda t: 1 - 0.8 * t / NUM_STEPS,
        ),
        (
            {"schedule": "cosine", "final_fraction": 0.2},
            lambda t: cosine(t, NUM_STEPS, 0.2),
        ),
        (
            {"schedule": "warmup_cosine", "warmup_steps": 4, "final_fraction": 0.2},
            lambda t: np.where(t < 4, t / 4, cosine(t - 4, NUM_STEPS - 4, 0.2)),
        ),
        (
            {"schedule": "piecewise", "drop_steps": (3, 7), "drop_factor": 0.5},
            lambda t: 0.5 ** ((t >= 3).astype(int) + (t >= 7)),
        ),
        (
            {"schedule": "piecewise", "drop_steps": (3,), "drop_factor": 4.0},
            lambda t: np.where(t < 3, 1.0, 4.0),
        ),
    ],
    ids=lambda value: value["schedule"] if isinstance(value, dict) else "",
)
def test_schedules(fields, expected):
    schedule = optimizers.learning_rate(settings(**fields), NUM_STEPS)
    rates = [float(schedule(jnp.int32(t))) for t in range(NUM_STEPS)]
    np.testing.assert_allclose(rates, 0.3 * expected(np.arange(NUM_STEPS)), rtol=1e-5)
    assert fields["schedule"] in SCHEDULES


# --- fields ---------------------------------------------------------------------------

READ_BY = {
    "name": ({"name": "sgd"}, "adam"),
    "learning_rate": ({}, 0.1),
    "momentum": ({"name": "nesterov", "momentum": 0.9}, 0.8),
    "b1": ({"name": "adam"}, 0.5),
    "b2": ({"name": "adam"}, 0.5),
    "eps": ({"name": "adam"}, 0.1),
    "rmsprop_decay": ({"name": "rmsprop"}, 0.5),
    "schedule": ({"schedule": "linear"}, "cosine"),
    "warmup_steps": ({"schedule": "warmup_cosine", "warmup_steps": 2}, 3),
    "final_fraction": ({"schedule": "linear"}, 0.5),
    "drop_steps": ({"schedule": "piecewise", "drop_steps": (1,)}, (2,)),
    "drop_factor": ({"schedule": "piecewise", "drop_steps": (1,)}, 0.5),
    "clip_norm": ({}, 0.5),
    "weight_decay": ({}, 0.1),
    "sam_rho": ({}, 0.05),
    "skip_not_finite": ({}, True),
}


def test_every_field_is_known_here():
    assert set(READ_BY) == set(defaults.get_config().optimizer)


@pytest.mark.parametrize("field", READ_BY)
def test_every_field_changes_some_update(field):
    def three_updates(config):
        tx = optimizers.base_optimizer(config, NUM_STEPS)
        theta = jnp.array([1.5, -2.0])
        state = tx.init(theta)
        for power in (1, 2, 3):
            overflows = field == "skip_not_finite" and power == 2
            updates, state = tx.update(
                theta**power * (jnp.inf if overflows else 1),
                state,
                theta,
                grad_fn=lambda theta, _, p=power: theta**p,
            )
            yield updates

    fields, value = READ_BY[field]
    config, changed = settings(**fields), settings(**{**fields, field: value})
    assert config[field] != value
    pairs = zip(three_updates(config), three_updates(changed), strict=True)
    assert max(np.max(np.abs(a - b)) for a, b in pairs) > 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "lion"}, "known ones: adam, adamw, gd, heavy_ball, muon, nesterov"),
        ({"schedule": "exp"}, "known ones: constant, cosine, linear, piecewise, warm"),
        ({"momentum": 0.9}, r"optimizer\.momentum = 0\.9 has no effect .* 'sgd'"),
        ({"name": "adam", "momentum": 0.9}, "momentum = 0.9 has no effect"),
        ({"name": "rmsprop", "b2": 0.9}, "b2 = 0.9 has no effect"),
        ({"name": "heavy_ball", "eps": 0.1, "momentum": 0.9}, "eps = 0.1 has no"),
        ({"name": "heavy_ball"}, "heavy_ball needs .*momentum between 0 and 1"),
        ({"name": "muon", "momentum": 1.0}, "muon needs .*momentum between 0 and 1"),
        ({"name": "adam", "b1": 1.0}, "b1 must be in"),
        ({"name": "adamw"}, "adamw needs optimizer.weight_decay > 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"clip_norm": -1.0}, "clip_norm must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"sam_rho": -1.0}, "sam_rho must be at least 0"),
        ({"warmup_steps": 3}, "warmup_steps = 3 has no effect .* 'constant'"),
        ({"schedule": "cosine", "warmup_steps": 3}, "warmup_steps = 3 has no effect"),
        ({"schedule": "warmup_cosine"}, "warmup_steps between 1 and steps - 1 = 9"),
        ({"schedule": "warmup_cosine", "warmup_steps": 10}, "got 10"),
        ({"final_fraction": 0.5}, "final_fraction = 0.5 has no effect"),
        ({"schedule": "linear", "final_fraction": 1.5}, r"must be in \[0, 1\]"),
        (
            {"schedule": "piecewise", "drop_steps": (1,), "drop_factor": -0.5},
            "must be at least 0",
        ),
        ({"schedule": "piecewise"}, "piecewise needs increasing"),
        ({"schedule": "piecewise", "drop_steps": (4, 2)}, r"got \(4, 2\)"),
        ({"schedule": "piecewise", "drop_steps": (10,)}, "steps - 1 = 9"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        optimizers.base_optimizer(settings(**fields), NUM_STEPS)
