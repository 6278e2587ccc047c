"""Gradient descent: below the edge of stability, and at it."""

import math
from collections.abc import Sequence

from experiments.reproduction.curves import (
    alignment_plot,
    loss_plot,
    metric_curves,
    switches,
)
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    at_most,
    between,
    by_seed,
    held_to,
    highest,
    lowest,
    median,
    never_switched,
    series,
    summaries,
)
from experiments.reproduction.plots import Curve, Level, Plot

BELOW_THE_EDGE = Claim(
    "P1-E9", "App. D.1", "Gradient descent with a small step does not align."
)

_SETTLED = 50
"""The steps that the alignment of the initial gradient takes to go."""


def entry(lines: Sequence) -> float:
    """Return the first step at which lambda_1 exceeds the edge, infinite for none."""
    over = zip(*series(lines, "sharpness/over_edge"), strict=True)
    return next((step for step, ratio in over if ratio > 1), math.inf)


def _edge(name: str, task: str, data: str) -> Experiment:
    """Return the experiment on one task."""
    at_the_edge = Claim(
        f"P1-E6 {task}",
        "Fig. 9",
        "At the edge of stability Dom-GD stalls; Bulk-GD learns as fast as GD, and "
        "smoothly.",
    )
    before_and_after = Claim(
        f"P1-R9 {task}",
        "asked by the reviewers",
        "The gradient aligns when the sharpness has reached 2/η, and not before.",
    )

    def judge(runs: Runs) -> list[Criterion]:
        return _judge_edge(runs[ONLY_POINT], at_the_edge.id, before_and_after.id)

    return Experiment(
        name,
        f"Gradient descent at the edge of stability: {task} on {data}",
        (at_the_edge, before_and_after),
        judge,
        _plot_edge,
    )


def _judge_edge(run: Run, e6: str, r9: str) -> list[Criterion]:
    note = never_switched(run)
    steps = run.config["steps"]
    found: dict[str, list[float]] = {
        name: []
        for name in ("lowest", "highest", "gd", "dom", "bulk", "before", "after")
    }
    for index, summary in enumerate(summaries(run)):
        switch = summary.switch_step
        if switch is None:
            continue
        courses = {name: by_seed(run, name)[index] for name in ("plain", "dom", "bulk")}
        before = between(courses["plain"], "loss/full", switch - 100, switch)
        least_before = lowest(before)
        last = {
            name: lowest(between(lines, "loss/full", steps - (steps - switch) / 10))
            for name, lines in courses.items()
        }
        at_edge = between(courses["plain"], "sharpness/over_edge", switch)
        found["lowest"].append(lowest(at_edge))
        found["highest"].append(highest(at_edge))
        found["dom"].append(last["dom"] / least_before)
        found["gd"].append(last["plain"] / least_before)
        found["bulk"].append(last["bulk"] / last["plain"])
        start = entry(courses["plain"])
        chi = "alignment/gradient"
        found["before"].append(highest(between(courses["plain"], chi, _SETTLED, start)))
        after = between(courses["plain"], chi, start, start + 201)
        found["after"].append(highest(after))
    return [
        at_least(
            e6, "GD: lowest λ_1 η / 2 after the switch", found["lowest"], 0.9, note
        ),
        at_most(e6, "GD: highest λ_1 η / 2 after the switch", found["highest"], 1.3),
        at_least(
            e6, "Dom: lowest loss at the end over that at the switch", found["dom"], 0.9
        ),
        at_most(e6, "GD: the same", found["gd"], 0.75),
        at_most(e6, "Bulk: lowest loss at the end over GD's", found["bulk"], 1.05),
        at_most(
            r9,
            f"highest χ_k from step {_SETTLED} until λ_1 > 2/η",
            found["before"],
            0.1,
        ),
        at_least(r9, "highest χ_k within 200 steps from there", found["after"], 0.9),
    ]


def _plot_edge(runs: Runs) -> list[Plot]:
    run = runs[ONLY_POINT]
    return [loss_plot(run), sharpness_plot(run), alignment_plot(run)]


def sharpness_plot(run: Run) -> Plot:
    """Return lambda_1 of each branch, lambda_{k+1} of Bulk's, and the edge."""
    k = run.config["subspace"]["k"]
    below = [
        Curve(f"λ_{k + 1} of Bulk", curve.x, curve.y, "tail")
        for curve in metric_curves(run, "subspace/next_eigenvalue")
        if curve.role == "bulk"
    ]
    edge = Level("2/η", 2 / run.config["optimizer"]["learning_rate"])
    curves = [*metric_curves(run, "sharpness/largest"), *below]
    levels = [edge, *switches(run)]
    return Plot("Sharpness", "step", "λ_1", curves, levels, log_y=True)


def _judge_small_step(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    courses = by_seed(run, "plain")
    medians = [median(between(lines, "alignment/gradient", 1000)) for lines in courses]
    sharpest = [highest(between(lines, "sharpness/over_edge", 0)) for lines in courses]
    return [
        held_to(
            BELOW_THE_EDGE.id,
            "λ_1 η / 2 stays below 1: highest",
            sharpest,
            lambda ratio: ratio < 1,
        ),
        at_most(BELOW_THE_EDGE.id, "median χ_k from step 1,000 on", medians, 0.1),
    ]


def _plot_small_step(runs: Runs) -> list[Plot]:
    run = runs[ONLY_POINT]
    alignment = alignment_plot(run)._replace(log_y=True)
    return [loss_plot(run), alignment, sharpness_plot(run)]


EXPERIMENTS = (
    _edge("gd_edge", "MLP", "MNIST-5k"),
    _edge("gd_edge_cnn", "CNN", "CIFAR10-5k"),
    Experiment(
        "small_step_gd",
        "Gradient descent with a small step",
        (BELOW_THE_EDGE,),
        _judge_small_step,
        _plot_small_step,
    ),
)
