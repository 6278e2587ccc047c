"""Does it pay? Time to a loss in steps, in gradients, and in seconds."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.reproduction.curves import metric_curves
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_most, by_seed
from experiments.reproduction.plots import Level, Plot
from experiments.reproduction.sharp_flat import unit_costs

_LESS = 0.95
"""A win is 5 % less: each run has one seed."""

MARGIN = 1.05
"""The target over the lowest loss that plain SGD gets to."""


class Price(NamedTuple):
    """What a run paid to get to the target: infinite if it never did.

    gradients: of mini-batches; a product counts as many as it takes as long as, and
      the projection nothing.
    seconds: of steps and products by themselves, without what the run logged.
    """

    steps: float
    products: float
    gradients: float
    seconds: float


def mode(run: Run) -> str:
    """Return the one branch of a run."""
    return run.config["modes"][0]


def optimizer(run: Run) -> str:
    """Return the optimizer's name, for a reader."""
    fields = run.config["optimizer"]
    name = str(fields["name"])
    name = name.upper() if name == "sgd" else name.capitalize()
    return f"SAM on {name}" if fields["sam_rho"] else name


def setting(run: Run) -> str:
    """Return what was tuned, in words."""
    words = f"η = {run.config['optimizer']['learning_rate']:g}"
    if mode(run) == "plain":
        return words
    weights = run.config["projection"]
    return f"{words}, α = {weights['dom']:g}, γ = {weights['bulk']:g}"


def target(runs: Runs) -> float:
    """Return the loss to get to: `MARGIN` times the lowest one of plain SGD."""
    return MARGIN * min(
        line["loss/full"]
        for run in runs.values()
        if optimizer(run) == "SGD" and mode(run) == "plain"
        for line in by_seed(run, "plain")[0]
        if "loss/full" in line and math.isfinite(line["loss/full"])
    )


def price(run: Run, loss: float, gradient: float) -> Price:
    """Return what the run paid until its loss first was at most `loss`.

    Between two lines the logarithm of the loss is taken as linear. `gradient` is the
    seconds of plain SGD's step, the unit of the gradients.
    """
    lines = lines_of(run)
    at = _first_step(lines, loss)
    if math.isinf(at):
        return Price(*[math.inf] * 4)
    # Those at the next line: what came in between is not forgotten.
    products = min(products_at(run, line) for line in lines if line["step"] >= at)
    gradients_a_step = 2 if run.config["optimizer"]["sam_rho"] else 1
    product = costs_of(run)["seconds/product"]
    gradients = at * gradients_a_step + products * product / gradient
    return Price(at, products, gradients, seconds(run, at, products))


def products_at(run: Run, line: Mapping) -> float:
    """Return the products that a run needed up to a line.

    Without a projection none. Before the switch nobody reads the basis: what the run
    spent there counts as one solve from scratch, the first one.
    """
    switch = run.config["switch"]["step"]
    if mode(run) == "plain" or line["step"] < switch:
        return 0.0
    before = [one for one in lines_of(run) if one["step"] < switch]
    if not before:
        return float(line["cost/matvecs"])
    cold, spent = before[0]["cost/matvecs"], before[-1]["cost/matvecs"]
    return float(line["cost/matvecs"] - spent + cold)


def gradient_seconds(runs: Runs) -> float:
    """Return the seconds of plain SGD's step, the fastest of its runs'."""
    return min(
        costs_of(run)["seconds/plain_step"]
        for run in runs.values()
        if optimizer(run) == "SGD" and mode(run) == "plain"
    )


def lines_of(run: Run) -> list[Mapping]:
    """Return the lines of a run's one branch that have the full loss."""
    return [line for line in by_seed(run, mode(run))[0] if "loss/full" in line]


def costs_of(run: Run) -> Mapping:
    """Return what `unit_costs` measured after the run.

    Raises:
      ValueError: if it has not.
    """
    for line in run.lines:
        if line["branch"] == unit_costs.PART:
            return line
    raise ValueError("a run's unit costs have not been measured")


def seconds(run: Run, step: float, products: float) -> float:
    """Return the seconds of so many steps and products by themselves."""
    costs, switch = costs_of(run), run.config["switch"]["step"]
    plain = min(step, switch) if mode(run) != "plain" else step
    return (
        plain * costs["seconds/plain_step"]
        + (step - plain) * costs[f"seconds/{mode(run)}_step"]
        + products * costs["seconds/product"]
    )


def own_clock(run: Run, loss: float) -> float:
    """Return the run's own seconds at its first line with at most the loss.

    From the first line on, that is, without compilation; with all that it logs and
    solves for, the warm-up's refreshes, too, and up to the next line.
    """
    timed = [line for line in lines_of(run) if "time/seconds" in line]
    return min(
        (
            line["time/seconds"] - timed[0]["time/seconds"]
            for line in timed
            if line["loss/full"] <= loss
        ),
        default=math.inf,
    )


def _first_step(lines: Sequence[Mapping], loss: float) -> float:
    for before, line in zip([None, *lines], lines, strict=False):
        if not line["loss/full"] <= loss:
            continue
        if before is None:
            return float(line["step"])
        logs = [math.log(one["loss/full"]) for one in (before, line)]
        share = (logs[0] - math.log(loss)) / (logs[0] - logs[1])
        return before["step"] + share * (line["step"] - before["step"])
    return math.inf


class Best(NamedTuple):
    """The cheapest run of an optimizer, plain or interpolated, by one price."""

    name: str
    run: Run
    price: Price


def best(runs: Runs, by: str) -> dict[tuple[str, bool], Best]:
    """Return the cheapest runs by optimizer and whether they are plain."""
    loss, gradient = target(runs), gradient_seconds(runs)
    found: dict[tuple[str, bool], Best] = {}
    for run in runs.values():
        key = optimizer(run), mode(run) == "plain"
        paid = price(run, loss, gradient)
        if key not in found or getattr(paid, by) < getattr(found[key].price, by):
            found[key] = Best(setting(run), run, paid)
    return found


def judge(runs: Runs, wins_steps: Claim, wins_time: Claim) -> list[Criterion]:
    """Hold the interpolated versions' prices to those of the plain optimizers."""
    first = max(lines_of(run)[0]["loss/full"] for run in runs.values())
    if not target(runs) < first:
        note = f"plain SGD's lowest loss, {target(runs) / MARGIN:.3g}, is its first"
        return [
            Criterion(claim.id, "a loss to get to", (), None, note)
            for claim in (wins_steps, wins_time)
        ]
    loss = target(runs)
    criteria = [Criterion(wins_steps.id, "the loss to get to", (loss,), None)]
    for claim, by, unit in (
        (wins_steps, "steps", "steps"),
        (wins_time, "gradients", "mini-batch gradients"),
        (wins_time, "seconds", "seconds"),
    ):
        found = best(runs, by)
        names = list(dict.fromkeys(name for name, _ in found))
        ratios = []
        for name in names:
            plain, other = found[name, True], found[name, False]
            paid = [getattr(one.price, by) for one in (plain, other)]
            for one, amount, what in zip(
                (plain, other), paid, ("plain", "interpolated"), strict=True
            ):
                text = f"{name}, {what}: {unit} to the loss"
                note = one.name
                if by == "seconds" and what == "interpolated":
                    note += f"; {own_clock(one.run, loss):.3g} s by the run's own clock"
                criteria.append(Criterion(claim.id, text, (amount,), None, note))
            # Where the plain one never gets there, there is no ratio.
            if math.isfinite(paid[0]):
                ratios.append(paid[1] / paid[0])
        text = f"{unit}: interpolated over plain, the best of {len(ratios)} optimizers"
        bound = [min(ratios)] if ratios else []
        criteria.append(at_most(claim.id, text, bound, _LESS))
    return criteria


def _plots(runs: Runs) -> list[Plot]:
    """Draw each optimizer's best runs by seconds."""
    found = best(runs, "seconds")
    level = [Level("target", target(runs))]
    plots = []
    for name in dict.fromkeys(name for name, _ in found):
        curves = [
            curve._replace(name=found[name, plain].name, role=role)
            for plain, role in ((True, "plain"), (False, "interpolated"))
            for curve in metric_curves(found[name, plain].run, "loss/full")
        ]
        plots.append(
            Plot(name, "step", "full training loss", curves, level, log_y=True)
        )
    return plots


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
