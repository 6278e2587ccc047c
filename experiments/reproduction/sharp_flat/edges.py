"""What moves Bulk-SGD's edge: k, a stale basis, the switch, the batch, the factor."""

import itertools
from collections.abc import Callable, Sequence

from experiments.reproduction.curves import switches
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    Line,
    at_least,
    at_most,
    by_seed,
    ends,
    held_to,
    mean,
    never_switched,
    series,
)
from experiments.reproduction.plots import Curve, Level, Panel, Plot
from experiments.reproduction.sharp_flat.diagrams import (
    BULK,
    INTERPOLATED,
    PLAIN,
    Branch,
    Rows,
    judge_edges,
    largest_stable,
    limits,
    phase_map,
)
from experiments.reproduction.sharp_flat.rates import factor, highest_of_failures
from experiments.summary import WARMUP

_SOURCE = "ours, after the abstract"

Judge = Callable[[Runs], Sequence[Criterion]]


def _experiment(
    name: str,
    title: str,
    rows: Rows,
    claims: tuple[Claim, ...],
    judge_rows: Judge,
    branches: Sequence[Branch] = (PLAIN, BULK),
    more_plots: Callable[[Runs], Sequence[Panel]] = lambda _: (),
) -> Experiment:
    """Return an experiment with the diagrams of some branches.

    claims: that the predicted edge holds; the others are `judge_rows`'.
    """

    def judge(runs: Runs) -> list[Criterion]:
        cells = _cells(runs)
        return [*judge_edges(cells, rows, claims[0], branches), *judge_rows(runs)]

    def plots(runs: Runs) -> list[Panel]:
        maps = [phase_map(_cells(runs), rows, branch) for branch in branches]
        return [*maps, *more_plots(runs)]

    return Experiment(name, title, claims, judge, plots)


def _cells(runs: Runs) -> Runs:
    """Return the runs of a diagram: those that switch at a step."""
    return {n: run for n, run in runs.items() if run.config["switch"]["step"] > 0}


_PREDICTED = "The predicted edge is where learning ends."


def _edge(of: str) -> Claim:
    return Claim(f"{of} edge", _SOURCE, _PREDICTED)


_NOISE = 0.01
"""Losses nearer to each other, relatively, are not told apart."""


def _at_first_rate(
    runs: Runs, field: Callable[[Run], float]
) -> dict[float, list[float]]:
    """Return Bulk's L_end / L_sw at the unchanged rate, by a field's value."""
    found = {
        field(run): [one.ratio for one in ends(run, "bulk")]
        for run in runs.values()
        if factor(run) == 1
    }
    return dict(sorted(found.items()))


def _report(
    claim: Claim, name: str, ratios: dict[float, list[float]]
) -> list[Criterion]:
    return [
        Criterion(
            claim.id, f"{name} = {value:g}: Bulk, L_end / L_sw", tuple(of_seeds), None
        )
        for value, of_seeds in ratios.items()
    ]


# The dimension k.

DIMENSION = Claim(
    "P2-E2", _SOURCE, "The more directions are left out, the larger the stable rates."
)
BEST_K = Claim(
    "P2-E2 best k",
    _SOURCE,
    "At SGD's rate the best number of directions is near the number of classes.",
)
_K = Rows("subspace.k", "k")


def _judge_dimension(runs: Runs) -> list[Criterion]:
    stable = largest_stable(runs, _K, "bulk")
    falls = sum(after < before for before, after in itertools.pairwise(stable))
    of_seeds = _at_first_rate(runs, lambda run: run.config["subspace"]["k"])
    ratios = {k: mean(values) for k, values in of_seeds.items()}
    best = min(ratios, key=lambda k: ratios[k])
    spread = max(ratios.values()) / min(ratios.values()) - 1
    return [
        at_most(
            DIMENSION.id,
            "Bulk's largest stable multiple falls from one k to the next: times",
            [falls],
            0,
            f"it is {', '.join(f'{value:g}' for value in stable)}",
        ),
        held_to(
            BEST_K.id,
            "k of the lowest L_end at the first rate: in [C/2, 3C] = [5, 30]",
            [best] if spread > _NOISE else [],
            lambda k: 5 <= k <= 30,
            f"from the lowest L_end to the highest: {spread:.2%}",
        ),
        *_report(BEST_K, "k", of_seeds),
    ]


# The interval between refreshes.

INTERVAL = Claim(
    "P2-E3", _SOURCE, "A basis up to 50 steps old serves Bulk-SGD as a fresh one."
)
_INTERVAL = Rows("subspace.refresh_every", "steps between refreshes")


def _judge_interval(runs: Runs) -> list[Criterion]:
    of_seeds = _at_first_rate(runs, lambda run: run.config["subspace"]["refresh_every"])
    ratios = {steps: mean(values) for steps, values in of_seeds.items()}
    (first, *others) = [ratio for steps, ratio in ratios.items() if steps <= 50]
    text = f"|L_end / that of {min(ratios):g} − 1| of intervals up to 50: largest"
    off = [abs(ratio / first - 1) for ratio in others]
    overs = [over for run in runs.values() for over in highest_of_failures(run)]
    edge = (
        f"smallest of {len(overs)} failed Bulk runs' highest η λ_max(R H R) / 2, with "
        "the basis that they had"
    )
    return [
        at_most(INTERVAL.id, text, [max(off)] if off else [], 0.02),
        at_least(INTERVAL.id, edge, [min(overs)] if overs else [], 1),
        *_report(INTERVAL, "interval", of_seeds),
    ]


def _drifts(runs: Runs) -> list[Panel]:
    """Return how far Bulk's basis had moved at each refresh, and what that costs."""
    found = sorted(
        (run for run in runs.values() if factor(run) == 1),
        key=lambda run: run.config["subspace"]["refresh_every"],
    )
    (first, *_) = found
    levels = switches(first)
    moved: list[Curve] = []
    over: list[Curve] = []
    for run in found:
        name = f"every {run.config['subspace']['refresh_every']}"
        for curves, metric in (
            (moved, "subspace/angle"),
            (over, "bulk_sharpness/over_edge"),
        ):
            curves += [
                Curve(name, *series(_since_refresh(lines), metric))
                for lines in by_seed(run, "bulk")
            ]
    return [
        Plot(
            "The drift of the basis",
            "step",
            "largest angle between two bases, radians",
            moved,
            levels,
        ),
        Plot(
            "What is left in the bulk",
            "step",
            "η λ_max(R H R) / 2",
            over,
            [Level("edge", 1), *levels],
            log_y=True,
            caption="At the first rate, with the basis in use.",
        ),
    ]


def _since_refresh(lines: Sequence[Line]) -> list[Line]:
    """Return a branch's lines from its first refresh on."""
    of_branch = [line for line in lines if line["branch"] != WARMUP]
    first = of_branch[0]["step"] if of_branch else 0
    return [
        line
        for line in of_branch
        if line["step"] - line["subspace/steps_since_refresh"] >= first
    ]


# The step of the switch.

SWITCH = Claim("P2-E4", _SOURCE, "To switch early hurts.")
BY_RULE = Claim(
    "P2-E4 rule",
    _SOURCE,
    "To switch by the papers' rule is as good as at the best of these steps.",
)
_SWITCH = Rows("switch.step", "step of the switch")


def _judge_switch(runs: Runs) -> list[Criterion]:
    """Compare losses, not ratios: an early switch has a high loss to begin with."""
    of_seeds = {
        run.config["switch"]["step"]: [one.loss for one in ends(run, "bulk")]
        for run in runs.values()
        if factor(run) == 1
    }
    found = {step: mean(values) for step, values in of_seeds.items()}
    losses = {step: loss for step, loss in found.items() if step > 0}
    by_rule = [loss for step, loss in found.items() if step <= 0]
    missed = [note for run in runs.values() if (note := never_switched(run))]
    first, last = min(losses), max(losses)
    return [
        held_to(
            SWITCH.id,
            f"Bulk: L_end with the switch at {first} over that at {last} "
            f"≥ {1 + _NOISE:g}",
            [losses[first] / losses[last]],
            lambda ratio: ratio >= 1 + _NOISE,  # also where the first one diverged
        ),
        at_most(
            BY_RULE.id,
            "Bulk: L_end with the switch by the papers' rule over the lowest",
            [loss / min(losses.values()) for loss in by_rule if not missed],
            1.05,
            "; ".join(missed),
        ),
        *(
            Criterion(
                SWITCH.id, f"switch at {step}: Bulk, L_end", tuple(of_seeds[step]), None
            )
            for step in sorted(losses)
        ),
    ]


# The batch size.

BATCH = Claim("P2-E5", _SOURCE, "Bulk-SGD stands larger rates than SGD.")
_BATCH = Rows("batch_size", "batch size")


def _judge_batch(runs: Runs) -> list[Criterion]:
    plain, bulk = (largest_stable(runs, _BATCH, mode) for mode in ("plain", "bulk"))
    rows = zip(plain, bulk, strict=True)
    share = sum(b > p for p, b in rows) / len(plain)
    sizes = list(limits(runs, _BATCH, BULK))
    listed = "; ".join(
        f"{size:g}: {p:g} and {b:g}"
        for size, p, b in zip(sizes, plain, bulk, strict=True)
    )
    return [
        at_least(
            BATCH.id,
            "share of batch sizes at which Bulk's largest stable multiple is larger",
            [share],
            0.8,
            f"largest stable multiples of SGD and Bulk by batch size: {listed}",
        )
    ]


# The factor of the bulk.

FACTOR = Claim("P2 bulk factor", "ours", "Bulk-SGD learns faster with a factor.")
_FACTOR = Rows("projection.bulk", "factor of the bulk")


def _judge_factor(runs: Runs) -> list[Criterion]:
    of_seeds = {
        run.config["projection"]["bulk"]: [
            one.ratio for one in ends(run, "interpolated")
        ]
        for run in runs.values()
        if factor(run) == 1
    }
    ratios = {bulk: mean(values) for bulk, values in of_seeds.items()}
    one = ratios[min(ratios)]
    best = [ratio / one for factor, ratio in ratios.items() if factor > 1]
    return [
        at_most(
            FACTOR.id,
            "lowest L_end with a factor above 1 over that with 1, at the first rate",
            [min(best)] if best else [],
            1,
        ),
        *(
            Criterion(FACTOR.id, f"factor {bulk:g}: L_end / L_sw", tuple(values), None)
            for bulk, values in sorted(of_seeds.items())
        ),
    ]


EXPERIMENTS = (
    _experiment(
        "dimensions",
        "How many directions to leave out",
        _K,
        (_edge("P2-E2"), DIMENSION, BEST_K),
        _judge_dimension,
        (BULK,),
    ),
    _experiment(
        "intervals",
        "A stale basis and the rate",
        _INTERVAL,
        (_edge("P2-E3"), INTERVAL),
        _judge_interval,
        (BULK,),
        more_plots=_drifts,
    ),
    _experiment(
        "switch_steps",
        "When to switch",
        _SWITCH,
        (_edge("P2-E4"), SWITCH, BY_RULE),
        _judge_switch,
    ),
    _experiment(
        "batch_sizes",
        "Two edges",
        _BATCH,
        (_edge("P2-E5"), BATCH),
        _judge_batch,
    ),
    _experiment(
        "bulk_factors",
        "Accelerating the bulk",
        _FACTOR,
        (Claim("P2 factor edge", "ours", _PREDICTED), FACTOR),
        _judge_factor,
        (INTERPOLATED,),
    ),
)
