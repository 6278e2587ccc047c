"""Other losses, networks and amounts of data."""

import math
from collections.abc import Callable
from statistics import fmean
from typing import Any

from experiments.reproduction.curves import alignment_plot, loss_plot
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    at_most,
    ends,
    held_to,
    never_switched,
)
from experiments.reproduction.plots import Axis, Map, Panel, Plot

_REVIEWERS = "asked by the reviewers"

VGG11 = Claim("P1-E11", "Fig. 17", "VGG-11's loss rises under Dom-SGD.")
BULK_OF_VGG11 = Claim("P1-R7 VGG-11", _REVIEWERS, "VGG-11 learns under Bulk-SGD.")
EVERYWHERE = Claim(
    "P1-E12",
    "Fig. 34 and about 30 more",
    "Dom-SGD does not learn, whatever the network, the activation and the loss.",
)
FULL_DATA = Claim("P1-R3", _REVIEWERS, "On the full data set, too, Dom-SGD stalls.")


def _ratios(run: Run, branch: str) -> list[float]:
    return [one.ratio for one in ends(run, branch)]


# Dom's loss rises.


def _cross_entropy(name: str, task: str, data: str) -> Experiment:
    """Return the experiment with cross-entropy on one task."""
    of_dom = Claim(
        f"P1-E10 {task}", "Fig. 14", "With cross-entropy Dom-SGD's loss rises."
    )
    of_bulk = Claim(f"P1-R7 {task}", _REVIEWERS, "With cross-entropy Bulk-SGD learns.")
    return Experiment(
        name,
        f"Cross-entropy: {task} on {data}",
        (of_dom, of_bulk),
        _judge_rises(of_dom, of_bulk),
        _plots,
    )


def _judge_rises(of_dom: Claim, of_bulk: Claim) -> Callable[[Runs], list[Criterion]]:
    def judge(runs: Runs) -> list[Criterion]:
        run = runs[ONLY_POINT]
        dom, plain, bulk = (_ratios(run, name) for name in ("dom", "plain", "bulk"))
        note = never_switched(run)
        return [
            at_least(of_dom.id, "Dom: L_end / L_sw", dom, 1, note),
            at_most(of_dom.id, "SGD: L_end / L_sw", plain, 0.9, note),
            at_most(of_bulk.id, "Bulk: L_end / L_sw", bulk, 0.9, note),
        ]

    return judge


def _plots(runs: Runs) -> list[Plot]:
    run = runs[ONLY_POINT]
    return [loss_plot(run), alignment_plot(run)]


# The full data set.


def _judge_full_data(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    dom, plain, bulk = (ends(run, name) for name in ("dom", "plain", "bulk"))
    pairs = list(zip(dom, plain, bulk, strict=True))
    to_plain = [b.loss / p.loss for _, p, b in pairs]
    return [
        at_least(
            FULL_DATA.id, "Dom: L_end / L_sw", [d.ratio for d, _, _ in pairs], 0.95
        ),
        held_to(
            FULL_DATA.id,
            "L_end of SGD / of Dom < 1",
            [p.loss / d.loss for d, p, _ in pairs],
            lambda ratio: ratio < 1,
        ),
        held_to(
            FULL_DATA.id,
            "L_end of Bulk / of SGD within 25 % of 1",
            to_plain,
            lambda ratio: abs(ratio - 1) <= 0.25,
        ),
    ]


# Many networks.


def _describe(run: Run) -> str:
    task: dict[str, Any] = run.config["task"]
    loss = task["loss"].replace("_", " ")
    if task["model"] != "mlp":
        return f"{task['model']}, {loss}"
    depth = len(task["hidden_sizes"])
    return f"MLP of {depth}, {task['activation'] or 'tanh'}, {loss}"


def _judge_everywhere(runs: Runs) -> list[Criterion]:
    """Judge the runs that switched; those that never did are listed, not dropped."""
    ratios = {_describe(run): _ratios(run, "dom") for run in runs.values()}
    judged = [ratio for of_run in ratios.values() for ratio in of_run]
    asked = sum(run.config["seeds"] for run in runs.values())
    share = [sum(ratio >= 0.95 for ratio in judged) / len(judged)] if judged else []
    missed = [
        f"{_describe(run)}: {never_switched(run)}"
        for run in runs.values()
        if never_switched(run)
    ]
    return [
        at_least(
            EVERYWHERE.id,
            f"share of the {len(judged)} runs that switched with Dom's L_end / L_sw of "
            "0.95 or more",
            share,
            0.9,
            "" if judged else "no run met the switch rule",
        ),
        Criterion(
            EVERYWHERE.id,
            f"runs of {asked} that never switched",
            (float(asked - len(judged)),),
            None,
            "; ".join(missed),
        ),
        *(
            Criterion(EVERYWHERE.id, f"{name}: Dom: L_end / L_sw", tuple(values), None)
            for name, values in ratios.items()
            if values
        ),
    ]


def _map_everywhere(runs: Runs) -> list[Panel]:
    ratios = [
        [_mean(_ratios(run, branch)) for branch in ("plain", "dom", "bulk")]
        for run in runs.values()
    ]
    return [
        Map(
            "Losses at the end",
            Axis("branch", ("SGD", "Dom", "Bulk")),
            Axis("network and loss", [_describe(run) for run in runs.values()]),
            ratios,
            "L_end / L_sw, mean over seeds",
            z_log=True,
            center=1.0,
            caption="Dom-SGD should be near 1, where the loss stays as it was.",
        )
    ]


def _mean(values: list[float]) -> float:
    """Return the mean, NaN of no values: those of a run that never switched."""
    return fmean(values) if values else math.nan


EXPERIMENTS = (
    _cross_entropy("cross_entropy", "MLP", "MNIST-5k"),
    _cross_entropy("cross_entropy_cnn", "CNN", "CIFAR10-5k"),
    Experiment(
        "vgg11",
        "VGG-11 on CIFAR10-5k",
        (VGG11, BULK_OF_VGG11),
        _judge_rises(VGG11, BULK_OF_VGG11),
        _plots,
    ),
    Experiment(
        "architectures",
        "Other networks, activations and losses",
        (EVERYWHERE,),
        _judge_everywhere,
        _map_everywhere,
    ),
    Experiment(
        "full_data", "All of MNIST, streamed", (FULL_DATA,), _judge_full_data, _plots
    ),
)
