"""SGD, Dom-SGD and Bulk-SGD at multiples of the learning rate."""

import math
from collections.abc import Sequence

from experiments.reproduction.curves import loss_plot, metric_curves
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    Line,
    at_least,
    at_most,
    by_seed,
    ends,
    highest,
    series,
)
from experiments.reproduction.plots import Level, Plot


def factor(run: Run) -> float:
    """Return the multiple of the learning rate from the switch on."""
    return run.config["optimizer"]["drop_factor"]


def by_factor(runs: Runs) -> list[Run]:
    """Return the runs from the smallest to the largest multiple."""
    return sorted(runs.values(), key=factor)


def highest_of_failures(run: Run) -> list[float]:
    """Return the highest eta lambda_max(R H R) / 2 before each Bulk run failed.

    That is, of one that diverged, or whose loss ended above that at the switch, up to
    the first line whose loss is above it.
    """
    found = []
    for lines in by_seed(run, "bulk"):
        # A seed that never switched has no branch, and no end.
        of_branch = [line for line in lines if line["branch"] == "bulk"]
        overs = series(_until_above(of_branch), "bulk_sharpness/over_edge")[1]
        found.append([over for over in overs if not math.isnan(over)])
    started = [overs for overs in found if overs]
    return [
        highest(overs)
        for overs, end in zip(started, ends(run, "bulk"), strict=False)
        if end.status == "diverged" or end.ratio > 1
    ]


def _until_above(lines: Sequence[Line]) -> list[Line]:
    """Return the lines up to the first whose loss is above the first one's."""
    kept: list[Line] = []
    for line in lines:
        kept.append(line)
        if not line["loss/full"] <= lines[0]["loss/full"]:
            break
    return kept


def _judge(runs: Runs, as_fast: Claim, its_edge: Claim) -> list[Criterion]:
    criteria = []
    overs: list[float] = []
    for run in by_factor(runs):
        name = f"{factor(run):g} times the rate"
        plain, dom, bulk = (ends(run, mode) for mode in ("plain", "dom", "bulk"))
        if factor(run) == 1:
            ratios = [b.loss / p.loss for b, p in zip(bulk, plain, strict=True)]
            criteria.append(
                at_most(as_fast.id, f"{name}: L_end of Bulk / of SGD", ratios, 1.05)
            )
            progress = [
                (1 - b.ratio) / (1 - p.ratio) for b, p in zip(bulk, plain, strict=True)
            ]
            text = f"{name}: Bulk's progress, 1 − L_end / L_sw, over SGD's"
            criteria.append(at_least(as_fast.id, text, progress, 0.9))
        for mode, found in (("SGD", plain), ("Dom", dom), ("Bulk", bulk)):
            text = f"{name}: {mode}, L_end / L_sw"
            values = tuple(one.ratio for one in found)
            criteria.append(Criterion(as_fast.id, text, values, None))
        overs += highest_of_failures(run)
    text = f"smallest of {len(overs)} failed Bulk runs' highest η λ_max(R H R) / 2"
    if overs:
        criteria.append(at_least(its_edge.id, text, [min(overs)], 1))
    else:
        criteria.append(
            Criterion(its_edge.id, text, (), None, "no Bulk run failed: none to see")
        )
    return criteria


def sharpness_plot(run: Run, title: str) -> Plot:
    """Return lambda_1 and Bulk's own lambda_max(R H R) over the edge."""
    curves = [
        *metric_curves(run, "sharpness/over_edge", ": η λ_1 / 2"),
        # In a colour of its own, beside Bulk's lambda_1.
        *(
            curve._replace(role="")
            for curve in metric_curves(
                run, "bulk_sharpness/over_edge", ": η λ_max(R H R) / 2"
            )
            if curve.role == "bulk"
        ),
    ]
    return Plot(title, "step", "over the edge", curves, [Level("edge", 1)], log_y=True)


def _plots(runs: Runs) -> list[Plot]:
    plots = []
    for run in by_factor(runs):
        name = f"{factor(run):g} times the rate"
        plots += [loss_plot(run, name), sharpness_plot(run, f"{name}: sharpness")]
    return plots


_SOURCE = "abstract; criterion ours"


def _experiment(name: str, title: str, network: str = "") -> Experiment:
    claims = (
        Claim(
            f"P2-E1 rate{network}",
            _SOURCE,
            "At SGD's learning rate Bulk-SGD learns at least as fast.",
        ),
        Claim(
            f"P2-E1 edge{network}",
            _SOURCE,
            "Bulk-SGD may lose stability: where it fails it met its own edge, "
            "η λ_max(R H R) = 2, before.",
        ),
    )
    return Experiment(name, title, claims, lambda runs: _judge(runs, *claims), _plots)


EXPERIMENTS = (
    _experiment("learning_rates", "Multiples of the learning rate: MLP on MNIST-5k"),
    _experiment(
        "learning_rates_cnn",
        "Multiples of the learning rate: CNN on CIFAR10-5k",
        ", CNN",
    ),
)
