"""A small run of the toy, for its tests."""

from configs.tiny_subspaces import toy_quadratic
from experiments import records


def small_config(make=toy_quadratic.get_config):
    """120 steps of 4,096 seeds."""
    config = make()
    config.seeds = 4096
    config.steps = 120
    config.log_every = 4
    config.log_first = 3
    return config


def lines_of(workdir, branch):
    lines = records.read_metrics(workdir)
    return [line for line in lines if line["branch"] == branch]
