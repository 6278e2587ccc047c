"""Each task with each optimizer, in each mode, shrunken.

`make test` trains a set in which each task and each optimizer occurs, and traces the
step of all pairs; `make test-all` trains all pairs. Every run has all four modes.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import pytest

from configs import defaults
from experiments import optimizers, records, steps, train
from experiments.optimizers.base import OPTIMIZERS
from experiments.tasks import MODELS, make_task

TASKS = {
    "mlp": {"dataset": "digits", "hidden_sizes": (4,)},
    "cnn": {"dataset": "digits", "channels": (2, 2)},
    "vgg11": {"dataset": "cifar10", "width": 1 / 32},
    "resnet8": {"dataset": "digits", "channels": (2, 2, 2)},
    "transformer": {
        "dataset": "sst2",
        "vocabulary_size": 100,
        "width": 4.0,
        "num_layers": 1,
        "num_heads": 2,
        "num_hidden": 4,
        "loss": "cross_entropy",
    },
    "gpt": {
        "dataset": "tiny_shakespeare",
        "context": 8,
        "width": 4.0,
        "num_layers": 1,
        "num_heads": 2,
        "loss": "cross_entropy",
    },
    "linear": {
        "dataset": "gaussian_mixture",
        "dimension": 5,
        "num_components": 3,
        "num_test": 6,
        "loss": "cross_entropy",
    },
    "two_layer": {
        "dataset": "xor_mixture",
        "dimension": 5,
        "num_hidden": 4,
        "num_test": 6,
        "loss": "cross_entropy",
    },
    "linear_transformer": {
        "dataset": "prompts",
        "dimension": 2,
        "context": 4,
        "num_layers": 2,
        "num_test": 6,
        "loss": "squared_error",
    },
    "softmax_transformer": {
        "dataset": "prompts",
        "dimension": 2,
        "context": 4,
        "num_layers": 2,
        "num_test": 6,
        "loss": "sqrt",
    },
}
ON_DISK = ("cifar10", "sst2", "tiny_shakespeare")

BASES = {
    "sgd": {},
    "gd": {},
    "heavy_ball": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "adam": {},
    "adamw": {"weight_decay": 0.1},
    "rmsprop": {},
    "muon": {"momentum": 0.95},
    "sam": {"name": "sgd", "sam_rho": 0.05},
}

COVERING = [
    ("mlp", "sgd"),
    ("mlp", "heavy_ball"),
    ("cnn", "gd"),
    ("cnn", "adam"),
    ("vgg11", "nesterov"),
    ("resnet8", "sam"),
    ("transformer", "muon"),
    ("gpt", "adamw"),
    ("mlp", "rmsprop"),
    ("linear", "adam"),
    ("two_layer", "heavy_ball"),
    ("linear_transformer", "adam"),
    ("softmax_transformer", "nesterov"),
]

PAIRS = list(itertools.product(TASKS, BASES))


@pytest.fixture(autouse=True)
def _prepared(request):
    """Ask for the data on disk where a task needs them."""
    if "model" in request.fixturenames:
        model = request.getfixturevalue("model")
        if TASKS[model]["dataset"] in ON_DISK:
            request.getfixturevalue("tfds_data_dir")


def shrunken(model, optimizer):
    """Two steps before the switch and two after it; a refresh each second step."""
    config = defaults.get_config()
    config.task.update({"model": model, "num_train": 12, **TASKS[model]})
    fields = {"name": optimizer, "learning_rate": 0.01, **BASES[optimizer]}
    config.optimizer.update(fields)
    config.batch_size, config.steps, config.switch.step = 4, 4, 2
    config.subspace.k, config.subspace.refresh_every = 2, 2
    config.modes = ("plain", "dom", "bulk", "interpolated")
    config.projection.dom, config.projection.bulk = 0.5, 1.5
    config.log_every = config.checkpoint_every = 2
    config.measure.held_out = config.measure.spectrum = 0
    config.check_curvature = False
    return config


def assert_trains(model, optimizer, workdir):
    config = shrunken(model, optimizer)
    status = train.run(config, workdir)
    assert status["status"] == "finished"
    assert status["switch_step"] == 2
    last = {line["branch"]: line for line in records.read_metrics(workdir)}
    assert set(last) == {"warmup", *config.modes}
    assert all(math.isfinite(line["loss/full"]) for line in last.values())
    # The branches have come apart, and the updates lie where they belong.
    assert len({last[mode]["loss/full"] for mode in config.modes}) == 4
    assert last["dom"]["alignment/update"] == pytest.approx(1, abs=1e-3)
    assert last["bulk"]["alignment/update"] == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize(("model", "optimizer"), COVERING)
def test_a_covering_set_trains(model, optimizer, tmp_path):
    assert_trains(model, optimizer, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "optimizer"), [pair for pair in PAIRS if pair not in COVERING]
)
def test_all_pairs_train(model, optimizer, tmp_path):
    assert_trains(model, optimizer, tmp_path)


def one_step(config, task, seed, batch):
    """Return the states before and after a step with a given basis."""
    state = steps.initial_state(config, task, seed)
    dom, bulk = (jnp.float32(weight) for weight in (0.5, 1.5))
    update = optimizers.stepwise_optimizer(config, dom, bulk).update
    loss, gradient = jax.value_and_grad(task.loss_fn)(state.params, batch)
    full = steps.Full(loss, gradient, {})
    new, _ = steps.take_step(config, task, state, batch, full, None, update)
    return state, new


@pytest.mark.parametrize("model", TASKS)
def test_all_pairs_fit_together(model):
    """A step keeps the state's structure, shapes and types."""
    task = make_task(shrunken(model, "sgd").task)
    batch = jax.tree.map(lambda x: x[:4], task.train)
    for optimizer in BASES:
        config = shrunken(model, optimizer)
        train.check(config)
        step = functools.partial(one_step, config, task)
        before, after = jax.eval_shape(step, jnp.int32(0), batch)
        assert before == after, optimizer


def test_nothing_is_left_out():
    assert set(TASKS) == set(MODELS)
    assert {fields.get("name", name) for name, fields in BASES.items()} == set(
        OPTIMIZERS
    )
    assert {model for model, _ in COVERING} == set(TASKS)
    assert {optimizer for _, optimizer in COVERING} == set(BASES)
