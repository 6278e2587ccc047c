"""Judges of the experiments on one example: on short runs, and on runs gone wrong."""

import numpy as np
import pytest

from experiments import bifurcation
from experiments.reproduction import trajectory_alignment
from experiments.reproduction.design import read_design
from experiments.reproduction.experiment import (
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    Run,
)
from experiments.reproduction.words import verdict_on

EXPERIMENTS = {one.name: one for one in trajectory_alignment.EXPERIMENTS}


def run_of(name, change=None, **fields):
    """A run in memory, its paths changed by `change(metrics of a branch)`."""
    design = read_design(f"configs/trajectory_alignment/{name}.py", "paper")
    config = design.points[0].config.copy_and_resolve_references()
    with config.unlocked():
        config.update(fields)
    lines = []
    for loss in config.losses:
        metrics = {k: v.copy() for k, v in bifurcation.paths(config, loss).items()}
        if change:
            change(metrics)
        lines += [
            {"branch": loss, "step": step}
            | {key: np.asarray(value[step]).tolist() for key, value in metrics.items()}
            for step in range(config.steps + 1)
        ]
    return {"run": Run(config.to_dict(), {"status": "finished"}, lines, [])}


def verdicts(name, runs):
    experiment = EXPERIMENTS[name]
    criteria = experiment.judge(runs)
    assert all(plot.curves for plot in experiment.plots(runs))
    return [verdict_on(claim, criteria) for claim in experiment.claims]


def lifted(metrics):
    """Paths a tenth above where they are, in q and in sharpness."""
    metrics["path/q"] = metrics["path/q"] * 1.1
    metrics["path/sharpness"] = metrics["path/sharpness"] * 1.1


def test_the_toy():
    assert verdicts("product", run_of("product")) == [REPRODUCED]
    lower = {"points": ((0.5, 5.0), (0.5, 7.0))}
    assert verdicts("product", run_of("product", **lower)) == [REPRODUCED]

    def off(metrics):
        metrics["path/p"][100:] *= 3

    assert verdicts("product", run_of("product", off, **lower)) == [PARTLY]


LINEAR = {"width": 2, "learning_rates": (0.05,), "residuals": (0.1,), "steps": 12_000}


def test_two_linear_layers():
    assert verdicts("linear", run_of("linear", **LINEAR)) == [REPRODUCED, REPRODUCED]
    # Too short for the limit, long enough for the curve.
    short = {**LINEAR, "steps": 200}
    assert verdicts("linear", run_of("linear", **short)) == [PARTLY, REPRODUCED]

    def swapped(metrics):
        metrics["path/p"] = metrics["path/p"] * 1.3

    assert verdicts("linear", run_of("linear", swapped, **LINEAR))[1] != REPRODUCED


def test_the_neuron():
    fields = {"learning_rates": (0.02,), "residuals": (0.1,), "steps": 4000}
    assert verdicts("neuron", run_of("neuron", **fields)) == [REPRODUCED]
    assert verdicts("neuron", run_of("neuron", lifted, **fields)) != [REPRODUCED]


def test_squared_error():
    fields = {"width": 2, "steps": 6000}
    assert verdicts("squared", run_of("squared", **fields)) == [REPRODUCED]

    def alive(metrics):
        metrics["path/p"] = np.nan_to_num(metrics["path/p"], posinf=1, neginf=1)

    assert verdicts("squared", run_of("squared", alive, **fields)) != [REPRODUCED]


@pytest.mark.parametrize(("power", "expected"), [(0, REPRODUCED), (1, NOT_REPRODUCED)])
def test_the_canonical_map(power, expected):
    def other_order(metrics):
        """Move the first step by a term of another order in eta."""
        eta = metrics["path/learning_rate"][0]
        for name in ("p", "q"):
            first, second = metrics[f"path/{name}"][:2]
            metrics[f"path/{name}"][1] = second + power * eta * first

    runs = run_of("canonical", other_order, width=2, steps=20)
    assert verdicts("canonical", runs) == [expected]
