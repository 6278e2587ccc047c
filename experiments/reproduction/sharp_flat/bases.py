"""Which basis is worth its price? Interpolated updates with several, at equal time."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_most
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.reproduction.sharp_flat import pays, prices, unit_costs
from experiments.reproduction.sharp_flat.prices import Costs

_MATRICES = {
    "hessian": "Hessian",
    "gauss_newton": "Gauss-Newton",
    "layers": "Hessian, layer by layer",
}


def basis(run: Run) -> str:
    """Return what a run's basis is of, in words."""
    subspace, num_train = run.config["subspace"], run.config["task"]["num_train"]
    if subspace["curvature"] == "updates":
        return f"the last {subspace['window']} updates"
    count = subspace["num_examples"]
    examples = f"{count or num_train:,} examples"
    return f"{_MATRICES[subspace['curvature']]}, {examples}"


def is_reference(run: Run) -> bool:
    """Return whether a run's basis is that of the Hessian on all examples."""
    subspace = run.config["subspace"]
    return subspace["curvature"] == "hessian" and not subspace["num_examples"]


def _seconds(run: Run, line: Mapping[str, Any], costs: Costs) -> float:
    """Return the seconds of the steps and products up to a line."""
    return prices.seconds(run, line["step"], prices.products_at(run, line), costs)


def loss_at(run: Run, time: float, costs: Costs) -> float:
    """Return the full loss after so many seconds; infinite if the run had diverged.

    Between two lines its logarithm is taken as linear; after the last one it stays.
    """
    times, losses = pays.clock(run, costs)
    statuses = run.status.get("branches", {}).values()
    diverged = any(one["status"] == "diverged" for one in statuses)
    if not all(map(math.isfinite, losses)) or (diverged and times[-1] < time):
        return math.inf
    return float(np.exp(np.interp(time, times, np.log(losses))))


class Best(NamedTuple):
    """The run of a basis with the lowest loss at the time, and that loss."""

    run: Run
    loss: float


def plain_runs(runs: Runs) -> list[Run]:
    """Return those of plain SGD."""
    return [run for run in runs.values() if prices.is_plain(run)]


def time_of(runs: Runs, costs: Costs) -> float:
    """Return the seconds that plain SGD takes for all its steps."""
    return min(pays.clock(run, costs)[0][-1] for run in plain_runs(runs))


def best(runs: Runs, costs: Costs) -> dict[str, Best]:
    """Return each basis' best run at the time of plain SGD's end."""
    time = time_of(runs, costs)
    found: dict[str, Best] = {}
    for run in runs.values():
        if prices.is_plain(run):
            continue
        one = Best(run, loss_at(run, time, costs))
        if basis(run) not in found or one.loss < found[basis(run)].loss:
            found[basis(run)] = one
    return found


def _judge(runs: Runs, cheaper: Claim) -> list[Criterion]:
    costs = prices.costs_of(runs)
    time, found = time_of(runs, costs), best(runs, costs)
    plain = min(loss_at(run, time, costs) for run in plain_runs(runs))
    reference = [one.loss for one in found.values() if is_reference(one.run)]
    others = [one.loss for one in found.values() if not is_reference(one.run)]
    criteria = [
        at_most(
            cheaper.id,
            "lowest loss with a cheaper basis over that with the Hessian's",
            [min(others) / reference[0]] if reference and others else [],
            1,
        ),
        Criterion(cheaper.id, "the time, in seconds", (time,), None),
        Criterion(cheaper.id, "SGD: loss at that time", (plain,), None),
    ]
    for name, one in found.items():
        lines = prices.lines_of(one.run)
        reached = [line for line in lines if _seconds(one.run, line, costs) <= time]
        last = reached[-1] if reached else lines[0]
        note = (
            f"{pays.weights(one.run)}; {last['step']} steps and "
            f"{prices.products_at(one.run, last):g} products of "
            f"{1e3 * prices.product_seconds(one.run, costs):.3g} ms by then"
        )
        text = f"{name}: loss at that time over SGD's"
        criteria.append(Criterion(cheaper.id, text, (one.loss / plain,), None, note))
    return criteria


def _plots(runs: Runs) -> list[Plot]:
    costs = prices.costs_of(runs)
    named = {"SGD": plain_runs(runs)[0]}
    named |= {name: one.run for name, one in best(runs, costs).items()}
    curves = [
        Curve(name, *pays.clock(run, costs), "plain" if name == "SGD" else "")
        for name, run in named.items()
    ]
    time = [Level("SGD's end", time_of(runs, costs), vertical=True)]
    caption = "Seconds of steps and products by themselves, each basis at its best."
    return [
        Plot(
            "At equal time",
            "seconds",
            "full training loss",
            curves,
            time,
            log_x=True,
            log_y=True,
            caption=caption,
        )
    ]


def _experiment(name: str, title: str, network: str = "") -> Experiment:
    cheaper = Claim(
        f"P2 bases{network}",
        "ours",
        "At equal time a cheaper basis serves better than the Hessian's on all "
        "examples.",
    )
    return Experiment(
        name,
        f"Which basis is worth its price? {title}",
        (cheaper,),
        lambda runs: _judge(runs, cheaper),
        _plots,
        unit_costs.train_and_time,
        unit_costs.is_timed,
    )


EXPERIMENTS = (
    _experiment("cheaper_bases", "MLP on MNIST-5k"),
    _experiment("cheaper_bases_cnn", "CNN on CIFAR10-5k", ", CNN"),
    _experiment("cheaper_bases_gpt", "GPT on tiny shakespeare", ", GPT"),
)
