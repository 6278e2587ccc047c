"""What a run pays for a loss: steps, products, gradients, seconds."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.reproduction.experiment import Run, Runs
from experiments.reproduction.judging import by_seed
from experiments.reproduction.sharp_flat import unit_costs

SGD = "SGD"


class Price(NamedTuple):
    """What a run paid to get to a loss: infinite if it never did.

    gradients: of mini-batches; a product counts as many as it takes as long as, and
      the projection nothing.
    seconds: of steps and products by themselves, without what the run logged.
    """

    steps: float
    products: float
    gradients: float
    seconds: float


class Costs(NamedTuple):
    """Seconds of steps and of products by their kinds: medians over the runs.

    gradient: plain SGD's step, the unit of the gradients.
    """

    steps: Mapping[tuple, float]
    products: Mapping[tuple, float]
    gradient: float


def mode(run: Run) -> str:
    """Return the one branch of a run."""
    return run.config["modes"][0]


def is_plain(run: Run) -> bool:
    """Return whether a run projects nothing."""
    return mode(run) == "plain"


def optimizer(run: Run) -> str:
    """Return the optimizer's name, for a reader."""
    fields = run.config["optimizer"]
    name = str(fields["name"])
    name = SGD if name == "sgd" else name.capitalize()
    return f"SAM on {name}" if fields["sam_rho"] else name


def costs_of(runs: Runs) -> Costs:
    """Return what `unit_costs` measured after the runs.

    Raises:
      ValueError: if it has not, or no run is plain SGD's.
    """
    steps: dict[tuple, list[float]] = defaultdict(list)
    products: dict[tuple, list[float]] = defaultdict(list)
    gradients = []
    for run in runs.values():
        measured = _measured(run)
        for weights in {"plain", mode(run)}:
            steps[_step(run, weights)].append(measured[f"seconds/{weights}_step"])
        products[_product(run)].append(measured["seconds/product"])
        if is_plain(run) and optimizer(run) == SGD:
            gradients.append(measured["seconds/plain_step"])
    if not gradients:
        raise ValueError("no run is plain SGD's, whose step is the unit of gradients")
    return Costs(
        {kind: statistics.median(found) for kind, found in steps.items()},
        {kind: statistics.median(found) for kind, found in products.items()},
        statistics.median(gradients),
    )


def _measured(run: Run) -> Mapping:
    for line in run.lines:
        if line["branch"] == unit_costs.PART:
            return line
    raise ValueError("a run's unit costs have not been measured")


def _step(run: Run, weights: str) -> tuple:
    """Return what a step's cost depends on; updates that are remembered cost, too."""
    return optimizer(run), run.config["subspace"]["curvature"] == "updates", weights


def _product(run: Run) -> tuple:
    subspace = run.config["subspace"]
    return subspace["curvature"], subspace["num_examples"]


def product_seconds(run: Run, costs: Costs) -> float:
    """Return the seconds of a product of a run's curvature."""
    return costs.products[_product(run)]


def lines_of(run: Run) -> list[Mapping]:
    """Return the lines of a run's one branch that have the full loss."""
    return [line for line in by_seed(run, mode(run))[0] if "loss/full" in line]


def products_at(run: Run, line: Mapping) -> float:
    """Return the products that a run needed up to a line.

    Without a projection none. Nobody reads the basis before the switch: what a run
    spent up to it counts as one solve from scratch, the first one.
    """
    switch = run.config["switch"]["step"]
    if is_plain(run) or line["step"] < switch:
        return 0.0
    lines = lines_of(run)
    at_switch = next(one for one in lines if one["step"] >= switch)
    spent = line["cost/matvecs"] - at_switch["cost/matvecs"]
    return float(lines[0]["cost/matvecs"] + spent)


def seconds(run: Run, step: float, products: float, costs: Costs) -> float:
    """Return the seconds of so many steps and products by themselves."""
    plain = step if is_plain(run) else min(step, run.config["switch"]["step"])
    return (
        plain * costs.steps[_step(run, "plain")]
        + (step - plain) * costs.steps[_step(run, mode(run))]
        + products * product_seconds(run, costs)
    )


def price(run: Run, loss: float, costs: Costs) -> Price:
    """Return what the run paid until its loss first was at most `loss`.

    Between two lines the logarithm of the loss is taken as linear.
    """
    lines = lines_of(run)
    at = _first_step(lines, loss)
    if math.isinf(at):
        return Price(*[math.inf] * 4)
    products = 0.0
    if at >= run.config["switch"]["step"]:
        # Those at the next line: what came in between is not forgotten.
        products = min(products_at(run, line) for line in lines if line["step"] >= at)
    gradients_a_step = 2 if run.config["optimizer"]["sam_rho"] else 1
    of_products = products * product_seconds(run, costs) / costs.gradient
    gradients = at * gradients_a_step + of_products
    return Price(at, products, gradients, seconds(run, at, products, costs))


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
