"""A tiny run, for the tests of the training loop."""

from configs import defaults
from experiments import records


def tiny_config():
    """60 steps of heavy ball on 100 digits; the switch comes after about 12."""
    config = defaults.get_config()
    config.steps = 60
    config.batch_size = 16
    config.task.num_train = 100
    config.task.hidden_sizes = (6,)
    config.optimizer.learning_rate = 0.1
    config.optimizer.name = "heavy_ball"
    config.optimizer.momentum = 0.5
    config.subspace.k = 3
    config.subspace.refresh_every = 5
    config.switch.threshold = 0.3
    config.switch.min_steps = 12
    config.log_every = 5
    config.measure.spectrum = 4
    config.measure.held_out = 4
    config.checkpoint_every = 10
    config.report_window = 10
    config.check_curvature = False
    return config


def tiny_transformer_config():
    """The same with a transformer of one layer and 60 sentences."""
    config = tiny_config()
    config.task.update(
        {
            "dataset": "sst2",
            "model": "transformer",
            "num_train": 60,
            "hidden_sizes": None,
            "vocabulary_size": 100,
            "width": 4.0,
            "num_layers": 1,
            "num_heads": 2,
            "num_hidden": 4,
        }
    )
    config.subspace.k = 2
    config.measure.spectrum = config.measure.held_out = 0
    return config


def lines_of(workdir, branch, seed=None):
    return [
        line
        for line in records.read_metrics(workdir)
        if line["branch"] == branch and seed in (None, line["seed"])
    ]


def without_times(lines):
    return [
        {name: value for name, value in line.items() if not name.startswith("time/")}
        for line in lines
    ]


def small_config():
    """One branch of SGD with few measurements: half the time to compile."""
    config = tiny_config()
    config.steps = 30
    config.optimizer.name = "sgd"
    config.optimizer.momentum = 0.0
    config.modes = ("bulk",)
    for name in config.measure:
        config.measure[name] = 0
    config.measure.losses = config.measure.alignments = config.measure.cost = 1
    return config
