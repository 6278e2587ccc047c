"""A cap on the bulk's step at its measured edge: does it keep Bulk-SGD stable?"""

import math

from experiments.reproduction.curves import metric_curves, switches
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, at_most, by_seed, ends, mean
from experiments.reproduction.plots import Curve, Level, Plot
from experiments.summary import WARMUP

KEEPS = Claim(
    "P2 guard",
    "ours",
    "Capped by the tracker's bound on its edge, Bulk-SGD learns at rates at which it "
    "otherwise fails.",
)


def _factor(run: Run) -> float:
    return float(run.config["projection"]["bulk"])


def _cap(run: Run) -> float:
    """Return the fraction of the edge that the bulk is capped at; 0 without a cap."""
    return float(run.config["projection"]["cap_bulk"])


def _name(cap: float) -> str:
    return f"capped at {cap:g} of the bound" if cap else "no cap"


def _ratio(run: Run) -> float:
    return mean([one.ratio for one in ends(run, "interpolated")])


def _over_edge(run: Run) -> list[float]:
    """Return each seed's mean of the bulk's capped rate over its edge."""
    rate = run.config["optimizer"]["learning_rate"] * _factor(run)
    found = []
    for lines in by_seed(run, "interpolated"):
        overs = [
            line["projection/scale"] * rate * line["bulk_sharpness/largest"] / 2
            for line in lines
            if line["branch"] != WARMUP and "bulk_sharpness/largest" in line
        ]
        found.append(mean([over for over in overs if not math.isnan(over)]))
    return found


def _by_cap(runs: Runs) -> dict[float, list[Run]]:
    """Return the runs of each cap, from the smallest factor to the largest."""
    caps = sorted({_cap(run) for run in runs.values()})
    ordered = sorted(runs.values(), key=_factor)
    return {cap: [run for run in ordered if _cap(run) == cap] for cap in caps}


def _judge(runs: Runs) -> list[Criterion]:
    found = _by_cap(runs)
    free = {_factor(run): _ratio(run) for run in found[0.0]}
    failed = [factor for factor, ratio in free.items() if not ratio <= 1]
    criteria = [
        at_least(
            KEEPS.id, "factors of the rate at which it fails without", [len(failed)], 1
        )
    ]
    for cap, of_cap in found.items():
        if cap:
            worst = [_ratio(run) for run in of_cap if _factor(run) in failed]
            text = f"{_name(cap)}: highest L_end / L_sw at those"
            criteria.append(at_most(KEEPS.id, text, [max(worst)] if worst else [], 1))
        criteria += [
            Criterion(
                KEEPS.id,
                f"{_name(cap)}, {_factor(run):g} times the rate: L_end / L_sw",
                tuple(one.ratio for one in ends(run, "interpolated")),
                None,
            )
            for run in of_cap
        ]
        if cap:
            criteria += [
                Criterion(
                    KEEPS.id,
                    f"{_name(cap)}, {_factor(run):g} times the rate: mean of its step "
                    "over the edge by λ_max(R H R)",
                    tuple(_over_edge(run)),
                    None,
                )
                for run in of_cap
            ]
    return criteria


def _plots(runs: Runs) -> list[Plot]:
    ends_plot = [
        Curve(
            _name(cap),
            [_factor(run) for run in of_cap],
            [
                ratio if math.isfinite(ratio := _ratio(run)) else math.nan
                for run in of_cap
            ],
        )
        for cap, of_cap in _by_cap(runs).items()
    ]
    largest = max(map(_factor, runs.values()))
    fastest = [of_cap[-1] for of_cap in _by_cap(runs).values()]
    curves = [
        curve._replace(name=_name(_cap(run)), role="")
        for run in fastest
        for curve in metric_curves(run, "loss/full")
        if curve.role == "interpolated"
    ]
    (first, *_) = fastest
    return [
        Plot(
            "Ends",
            "bulk's rate / SGD's",
            "L_end / L_sw, mean over seeds",
            ends_plot,
            [Level("L_sw", 1.0)],
            log_x=True,
            log_y=True,
            caption="A run that diverged has no point.",
        ),
        Plot(
            f"{largest:g} times the rate",
            "step",
            "full training loss",
            curves,
            switches(first),
            log_y=True,
        ),
    ]


EXPERIMENTS = (
    Experiment("guard", "A cap at the bulk's edge", (KEEPS,), _judge, _plots),
)
