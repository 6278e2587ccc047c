"""Does it pay? Time to a loss in steps, in gradients, and in seconds."""

import math
from typing import NamedTuple

from experiments.reproduction.curves import metric_curves
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_most
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.reproduction.sharp_flat import prices, unit_costs
from experiments.reproduction.sharp_flat.prices import SGD, Costs, Price

_LESS = 0.95
"""A win is 5 % less: each run has one seed."""

MARGIN = 1.05
"""A target over the lowest loss that an optimizer's plain version gets to."""

UNITS = {"steps": "steps", "gradients": "mini-batch gradients", "seconds": "seconds"}


def weights(run: Run) -> str:
    """Return the learning rate and the weights of both parts, in words."""
    words = f"η = {run.config['optimizer']['learning_rate']:g}"
    if prices.is_plain(run):
        return words
    of_parts = run.config["projection"]
    return f"{words}, α = {of_parts['dom']:g}, γ = {of_parts['bulk']:g}"


def setting(run: Run) -> str:
    """Return all that was tuned, in words."""
    if prices.is_plain(run):
        return weights(run)
    subspace = run.config["subspace"]
    every = subspace["refresh_every"]
    refreshes = f"each {every:,} steps" if every else "by adaptive refreshes"
    return f"{weights(run)}, basis of {subspace['num_examples']:,} examples {refreshes}"


def target(runs: Runs, optimizer: str) -> float:
    """Return `MARGIN` times the lowest loss of an optimizer's plain runs."""
    return MARGIN * min(
        (
            line["loss/full"]
            for run in runs.values()
            if prices.optimizer(run) == optimizer and prices.is_plain(run)
            for line in prices.lines_of(run)
            if math.isfinite(line["loss/full"])
        ),
        default=math.nan,
    )


class Best(NamedTuple):
    """The cheapest run of an optimizer, plain or interpolated, by one price.

    num_runs: among which it was chosen.
    """

    run: Run
    price: Price
    num_runs: int


def best(
    runs: Runs, optimizer: str, is_plain: bool, loss: float, by: str, costs: Costs
) -> Best:
    """Return the run that gets to the loss at the lowest price.

    Of those that never do, the one with the lowest loss.
    """
    tuned = [
        run
        for run in runs.values()
        if (prices.optimizer(run), prices.is_plain(run)) == (optimizer, is_plain)
    ]
    found = [Best(run, prices.price(run, loss, costs), len(tuned)) for run in tuned]
    return min(found, key=lambda one: (getattr(one.price, by), _lowest(one.run)))


def _lowest(run: Run) -> float:
    losses = (line["loss/full"] for line in prices.lines_of(run))
    return min((loss for loss in losses if math.isfinite(loss)), default=math.inf)


def judge(runs: Runs, fewer_steps: Claim, less_time: Claim) -> list[Criterion]:
    """Hold each interpolated optimizer's prices to those of the plain one."""
    costs = prices.costs_of(runs)
    names = list(dict.fromkeys(map(prices.optimizer, runs.values())))
    first = max(prices.lines_of(run)[0]["loss/full"] for run in runs.values())
    criteria: list[Criterion] = []
    for name in names:
        loss = target(runs, name)
        for by, unit in UNITS.items():
            claim = fewer_steps if by == "steps" else less_time
            text = f"{name}: {unit} to {loss:.3g}, interpolated over plain"
            if not loss < first:
                note = "plain, it gets to no loss below the first"
                criteria.append(Criterion(claim.id, text, (), None, note))
                continue
            plain, other = (
                best(runs, name, is_plain, loss, by, costs)
                for is_plain in (True, False)
            )
            paid = [getattr(one.price, by) for one in (other, plain)]
            note = "; over ".join(
                f"{amount:.4g} ({setting(one.run)}; best of {one.num_runs} runs)"
                for amount, one in zip(paid, (other, plain), strict=True)
            )
            criteria.append(at_most(claim.id, text, [paid[0] / paid[1]], _LESS, note))
    return [*criteria, *_to_one_loss(runs, names, less_time, costs)]


def _to_one_loss(
    runs: Runs, names: list[str], claim: Claim, costs: Costs
) -> list[Criterion]:
    """Return all optimizers' seconds to plain SGD's target."""
    loss = target(runs, SGD)
    criteria = []
    for name in names:
        for is_plain, kind in ((True, "plain"), (False, "interpolated")):
            run, price, _ = best(runs, name, is_plain, loss, "seconds", costs)
            text = f"seconds to SGD's {loss:.3g}: {name}, {kind}"
            note = (
                f"{price.steps:.4g} steps, {price.gradients:.4g} gradients; "
                f"{setting(run)}"
                if math.isfinite(price.steps)
                else f"it gets to {_lowest(run):.3g}; {setting(run)}"
            )
            criteria.append(Criterion(claim.id, text, (price.seconds,), None, note))
    return criteria


def clock(run: Run, costs: Costs) -> tuple[list[float], list[float]]:
    """Return the seconds and the full losses of a run's lines, as they are priced.

    At the switch twice: before the first solve, and after it.
    """
    times: list[float] = []
    losses: list[float] = []
    spent = 0.0
    for line in prices.lines_of(run):
        products = prices.products_at(run, line)
        first = products and not spent
        for of_products in (0.0, products) if first else (products,):
            times.append(prices.seconds(run, line["step"], of_products, costs))
            losses.append(line["loss/full"])
        spent = products
    return times, losses


def _plots(runs: Runs) -> list[Plot]:
    """Draw each optimizer's best runs by seconds, over steps and over seconds."""
    costs = prices.costs_of(runs)
    over_steps: list[Plot] = []
    over_seconds: list[Plot] = []
    for name in dict.fromkeys(map(prices.optimizer, runs.values())):
        loss = target(runs, name)
        chosen = {
            role: best(runs, name, role == "plain", loss, "seconds", costs).run
            for role in ("plain", "interpolated")
        }
        steps = [
            curve._replace(name=role, role=role)
            for role, run in chosen.items()
            for curve in metric_curves(run, "loss/full")
        ]
        clocks = [Curve(role, *clock(run, costs), role) for role, run in chosen.items()]
        level = [Level("target", loss)] if math.isfinite(loss) else []
        for plots, x, curves in (
            (over_steps, "step", steps),
            (over_seconds, "seconds", clocks),
        ):
            caption = "; ".join(
                f"{role}: {setting(run)}" for role, run in chosen.items()
            )
            plots.append(
                Plot(
                    name,
                    x,
                    "full training loss",
                    curves,
                    level,
                    log_y=True,
                    caption=f"{caption}.",
                )
            )
    return [*over_steps, *over_seconds]


def _experiment(name: str, title: str, network: str = "") -> Experiment:
    claims = (
        Claim(
            f"P2 steps{network}",
            "abstract; experiment ours",
            "Accelerated bulk updates need fewer steps.",
        ),
        Claim(
            f"P2 time{network}",
            "ours",
            "With a tracked basis they win in wall time, too.",
        ),
    )
    return Experiment(
        name,
        f"Does it pay? {title}",
        claims,
        lambda runs: judge(runs, *claims),
        _plots,
        unit_costs.train_and_time,
        unit_costs.is_timed,
    )


EXPERIMENTS = (
    _experiment("time_to_loss", "MLP on MNIST-5k"),
    _experiment("time_to_loss_cnn", "CNN on CIFAR10-5k", ", CNN"),
    _experiment("time_to_loss_gpt", "GPT on tiny shakespeare", ", GPT"),
)
