"""Other optimizers: SAM, momentum, Adam."""

from collections.abc import Sequence

from experiments.reproduction.curves import (
    alignment_plot,
    loss_plot,
    metric_curves,
    switches,
)
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    at_least,
    at_most,
    by_seed,
    ends,
    held_to,
    never_switched,
    series,
)
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.reproduction.tiny_subspaces.figure_1 import stalls_and_learns

SAM = Claim(
    "P1-E7", "Fig. 10", "Dom-SAM stalls, and Bulk-SAM learns at least as SAM does."
)


# SAM.


def _judge_sam(runs: Runs) -> list[Criterion]:
    criteria = []
    for run in runs.values():
        radius = f"ρ = {run.config['optimizer']['sam_rho']:g}, "
        dom, bulk, plain = (ends(run, name) for name in ("dom", "bulk", "plain"))
        ratios = [b.loss / p.loss for b, p in zip(bulk, plain, strict=False)]
        criteria += [
            at_least(
                SAM.id,
                f"{radius}Dom: L_end / L_sw",
                [d.ratio for d in dom],
                0.95,
                never_switched(run),
            ),
            at_most(SAM.id, f"{radius}L_end of Bulk-SAM / of SAM", ratios, 1.05),
        ]
    return criteria


def _plot_sam(runs: Runs) -> list[Plot]:
    return [
        loss_plot(run, f"SAM, ρ = {run.config['optimizer']['sam_rho']:g}")
        for run in runs.values()
    ]


# Effective learning rates.


def _name(run: Run) -> str:
    return str(run.config["optimizer"]["name"]).replace("_", "-")


def _setting(run: Run) -> str:
    return f"{_name(run)}, η = {run.config['optimizer']['learning_rate']:g}"


def _rate(lines: Sequence, part: str) -> float:
    """Return the ratio of the sums over all logged steps."""
    _, numerators = series(lines, f"effective_rate/{part}_numerator")
    _, denominators = series(lines, f"effective_rate/{part}_denominator")
    return sum(numerators) / sum(denominators)


def _effective_rates(name: str, task: str, data: str) -> Experiment:
    """Return the experiment on one task."""
    rates = Claim(
        f"P1-E8 {task}",
        "Table 1",
        "Momentum and Adam move much faster in the bulk than in the dominant space; "
        "SGD moves at one rate in both.",
    )
    curves = Claim(
        f"P1-R4 {task}",
        "asked by the reviewers",
        "The effective learning rates as curves over time.",
    )

    def judge(runs: Runs) -> list[Criterion]:
        return _judge_rates(runs, rates.id, curves.id)

    title = f"Effective learning rates: {task} on {data}"
    return Experiment(name, title, (rates, curves), judge, _plot_rates)


def _judge_rates(runs: Runs, of_rates: str, of_curves: str) -> list[Criterion]:
    criteria = []
    for run in runs.values():
        rate, name = run.config["optimizer"]["learning_rate"], _name(run)
        courses = by_seed(run, "plain")
        dom, bulk = (
            [_rate(lines, part) for lines in courses] for part in ("dom", "bulk")
        )
        ratios = [b / d for d, b in zip(dom, bulk, strict=True)]
        if name == "sgd":
            criteria += [
                held_to(
                    of_rates,
                    f"SGD: lr_{part} / η within 10 % of 1",
                    [value / rate for value in values],
                    lambda value: abs(value - 1) <= 0.1,
                )
                for part, values in (("dom", dom), ("bulk", bulk))
            ]
        elif name == "heavy-ball":
            criteria += [
                at_least(of_rates, f"{name}: lr_bulk / lr_dom", ratios, 3),
                held_to(
                    of_rates,
                    f"{name}: lr_bulk / η in [5, 12]",
                    [value / rate for value in bulk],
                    lambda value: 5 <= value <= 12,
                ),
            ]
        else:
            criteria.append(
                at_least(of_rates, f"{name}: lr_bulk / lr_dom", ratios, 1.5)
            )
        criteria += [
            Criterion(of_curves, f"{name}: lr_{part}", tuple(values), None)
            for part, values in (("dom", dom), ("bulk", bulk))
        ]
    return criteria


def _smoothed_rate(lines: Sequence, part: str, decay: float = 0.99) -> Curve:
    """Return the ratio of the exponential averages of numerator and denominator.

    Averaging the two apart needs no floor: where |P g| vanishes, so do both.
    """
    steps, numerators = series(lines, f"effective_rate/{part}_numerator")
    _, denominators = series(lines, f"effective_rate/{part}_denominator")
    above = below = 0.0
    values = []
    for a, b in zip(numerators, denominators, strict=True):
        above, below = decay * above + a, decay * below + b
        values.append(above / below)
    return Curve(f"lr_{part}", steps, values, part)


def _plot_rates(runs: Runs) -> list[Plot]:
    plots = []
    for run in runs.values():
        curves = [
            _smoothed_rate(lines, part)
            for part in ("dom", "bulk")
            for lines in by_seed(run, "plain")
        ]
        rate = Level("η", run.config["optimizer"]["learning_rate"])
        plots.append(
            Plot(
                _name(run),
                "step",
                "effective learning rate",
                curves,
                [rate],
                log_y=True,
            )
        )
    return plots


# Dom and Bulk with momentum and Adam.


def _momentum_adam(name: str, task: str, data: str, max_ratio: float) -> Experiment:
    """Return the experiment on one task, with figure 1's bound on L_end / L_sw."""
    claim = Claim(
        f"P1-E13 {task}",
        "App. F",
        "With momentum and with Adam, too, Dom stalls and Bulk learns.",
    )

    def judge(runs: Runs) -> list[Criterion]:
        return [
            criterion
            for run in runs.values()
            for criterion in stalls_and_learns(
                run, claim.id, max_ratio, f"{_setting(run)}, "
            )
        ]

    title = f"Momentum and Adam: {task} on {data}"
    return Experiment(name, title, (claim,), judge, _plot_momentum)


def _plot_momentum(runs: Runs) -> list[Plot]:
    plots = []
    for run in runs.values():
        name = _setting(run)
        k = run.config["subspace"]["k"]
        plots += [
            loss_plot(run, f"{name}: loss"),
            alignment_plot(run, f"{name}: alignment of the gradient"),
            Plot(
                f"{name}: alignment of the update",
                "step",
                f"χ_{k} of the update",
                metric_curves(run, "alignment/update"),
                switches(run),
            ),
        ]
    return plots


EXPERIMENTS = (
    Experiment("sam", "SAM", (SAM,), _judge_sam, _plot_sam),
    _effective_rates("effective_rates", "MLP", "MNIST-5k"),
    _effective_rates("effective_rates_cnn", "CNN", "CIFAR10-5k"),
    _effective_rates("effective_rates_transformer", "transformer", "SST2-1k"),
    _momentum_adam("momentum_adam", "MLP", "MNIST-5k", 0.6),
    _momentum_adam("momentum_adam_cnn", "CNN", "CIFAR10-5k", 0.93),
    _momentum_adam("momentum_adam_transformer", "transformer", "SST2-1k", 0.85),
)
