"""Muon: does its gradient ever align, and what if we switch all the same?"""

from experiments.reproduction.curves import alignment_plot, loss_plot
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_most,
    by_seed,
    highest,
    mean,
    never_switched,
    series,
)
from experiments.reproduction.plots import Plot
from experiments.reproduction.tiny_subspaces.figure_1 import stalls_and_learns

NEVER_ALIGNS = Claim(
    "P1-E2 Muon",
    "an independent replication",
    "Under Muon the moving average of χ_k never passes 0.95.",
)
ALL_THE_SAME = Claim(
    "P1-E13 Muon",
    "a question of ours",
    "Dom-Muon stalls and Bulk-Muon learns from a step that is given.",
)


def _by_rule(run: Run) -> bool:
    return run.config["switch"]["step"] <= 0


def _rate(run: Run) -> str:
    return f"η = {run.config['optimizer']['learning_rate']:g}"


def _judge_rule(run: Run) -> list[Criterion]:
    courses = by_seed(run, "warmup")
    averages = [highest(series(lines, "alignment/average")[1]) for lines in courses]
    chi = [mean(series(lines, "alignment/gradient")[1]) for lines in courses]
    return [
        at_most(
            NEVER_ALIGNS.id,
            f"{_rate(run)}: highest moving average of χ_k",
            averages,
            0.95,
            never_switched(run),
        ),
        Criterion(NEVER_ALIGNS.id, f"{_rate(run)}: mean χ_k", tuple(chi), None),
    ]


def _judge(runs: Runs) -> list[Criterion]:
    criteria = []
    for run in runs.values():
        if _by_rule(run):
            criteria += _judge_rule(run)
        else:
            where = f"{_rate(run)}, "
            criteria += stalls_and_learns(run, ALL_THE_SAME.id, 0.6, where)
    return criteria


def _plots(runs: Runs) -> list[Plot]:
    plots = []
    for run in runs.values():
        if _by_rule(run):
            title = f"{_rate(run)}, switch by the rule"
            plots += [alignment_plot(run, title), loss_plot(run, title)]
        else:
            plots.append(loss_plot(run, f"{_rate(run)}, switch at a given step"))
    return plots


EXPERIMENTS = (
    Experiment(
        "muon", "Muon: MLP on MNIST-5k", (NEVER_ALIGNS, ALL_THE_SAME), _judge, _plots
    ),
)
