"""Networks with one example: P4-E1 to E3 and E5 to E7."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments import bifurcation
from experiments.bifurcation import LOSSES, NEURON_C
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Runs
from experiments.reproduction.judging import at_least, at_most
from experiments.reproduction.plots import Curve, Panel, Plot
from experiments.reproduction.trajectory_alignment.paths import (
    Paths,
    Ratio,
    curve_plot,
    gaps,
    of_rate,
    off_curve,
    paths_of,
    sharpness_plot,
)

_SETTLED = 100
"""The step from which on a path beyond the edge should be on the curve."""

# The toy, P4-E1.

TOY = Claim(
    "P4-E1",
    "opening figure; criteria ours",
    "Paths from everywhere fall on one curve, and end at one sharpness.",
)


def _judge_toy(runs: Runs) -> list[Criterion]:
    paths = paths_of(runs[ONLY_POINT], "log_cosh")
    off = off_curve(paths, LOSSES["log_cosh"].ratio)[paths.steps >= _SETTLED]
    eta = paths.eta[0]
    expected = 2 / eta - _gap("log_cosh", eta)
    ends = paths.sharpness[-1, paths.beyond]
    note = f"{paths.beyond.sum()} of {len(paths.beyond)} paths are beyond the edge"
    return [
        at_most(
            TOY.id,
            f"largest |q / r(p) − 1| from step {_SETTLED} on",
            [float(off.max())] if off.size else [],
            0.02,
            note,
        ),
        at_most(
            TOY.id,
            f"largest |sharpness at the end − (2/η − 1.5 η = {expected:.4f})|",
            [float(np.abs(ends - expected).max())] if ends.size else [],
            0.01,
        ),
    ]


def _gap(loss: str, eta: Any) -> Any:
    """Return theory's 2 / eta - sharpness of two linear layers: eta / (2 c)."""
    return eta / (2 * LOSSES[loss].c)


def _plots_toy(runs: Runs) -> list[Panel]:
    paths = paths_of(runs[ONLY_POINT], "log_cosh")
    return [
        _plane(paths),
        curve_plot({"paths": paths}, {"log cosh": LOSSES["log_cosh"].ratio}),
        sharpness_plot(paths, "Sharpness"),
    ]


def _plane(paths: Paths) -> Plot:
    """Draw the toy's paths in its plane: from p = x y and |(x, y)|^2 = 2 / (eta q).

    All have |x| < y.
    """
    squared = 2 / (paths.eta * paths.q)
    y = np.sqrt((squared + np.sqrt(np.maximum(squared**2 - 4 * paths.p**2, 0))) / 2)
    x = paths.p / y
    curves = [
        Curve("paths", x[:, i].tolist(), y[:, i].tolist())
        for i in range(len(paths.eta))
    ]
    return Plot("The plane", "x", "y", curves)


# Two linear layers, P4-E2 and E5.

LIMIT = Claim(
    "P4-E2",
    "Theorem of two-layer linear networks; number ours",
    "Below the edge q stays (for η ≤ 0.1: its change goes with η² p²); from beyond it "
    "the sharpness ends at 2/η − η / (2c).",
)
OWN_CURVE = Claim("P4-E5", "Sec. 4; criterion ours", "Each loss has its own curve.")


_APART = 0.05
"""How far apart, relatively, two curves have to be to tell which one a point is on."""


def _judge_linear(runs: Runs) -> list[Criterion]:
    run, criteria = runs[ONLY_POINT], []
    all_paths = {loss: paths_of(run, loss) for loss in run.config["losses"]}
    for loss, paths in all_paths.items():
        small = paths.beyond & (paths.eta <= 0.1)
        over = gaps(paths)[small] / paths.eta[small]
        expected = 1 / (2 * LOSSES[loss].c)
        text = f"{loss}, η ≤ 0.1: largest |(2/η − sharpness)/η − {expected:g}|"
        worst = [float(np.abs(over - expected).max())] if over.size else []
        criteria.append(at_most(LIMIT.id, text, worst, 0.05))
        moved = np.abs(paths.q[-1] / paths.q[0] - 1)
        below = paths.q[0] > 1
        text = f"{loss}, from below the edge, η {{}} 0.1: largest change of q"
        slow = moved[below & (paths.eta <= 0.1)]
        worst = [float(slow.max())] if slow.size else []
        criteria.append(at_most(LIMIT.id, text.format("≤"), worst, 0.01))
        fast = moved[below & (paths.eta > 0.1)]
        if fast.size:
            worst = [float(fast.max())]
            criteria.append(Criterion(LIMIT.id, text.format(">"), tuple(worst), None))
    for loss, paths in all_paths.items():
        own, other = (LOSSES[name].ratio for name in (loss, _other(all_paths, loss)))
        settled = paths.steps >= _SETTLED
        p = paths.p[settled][:, paths.beyond]
        # Near p = 0 both curves are 1.
        apart = np.abs(own(p) / other(p) - 1) > _APART
        nearer = (off_curve(paths, own) < off_curve(paths, other))[settled]
        seen = [i for i in range(nearer.shape[1]) if apart[:, i].any()]
        of_paths = [float(nearer[apart[:, i], i].mean()) for i in seen]
        shares = [min(of_paths)] if of_paths else []
        text = (
            f"{loss}: share of points nearer to its own curve, the lowest of "
            f"{len(seen)} paths, from step {_SETTLED} on, where both are {_APART:.0%} "
            "apart"
        )
        criteria.append(at_least(OWN_CURVE.id, text, shares, 0.95))
    return criteria


def _other(losses: Mapping[str, Any], loss: str) -> str:
    (other,) = (name for name in losses if name != loss)
    return other


def _plots_linear(runs: Runs) -> list[Panel]:
    run = runs[ONLY_POINT]
    named = {loss: paths_of(run, loss) for loss in run.config["losses"]}
    shown = {loss.replace("_", " "): paths for loss, paths in named.items()}
    ratios = {loss.replace("_", " "): LOSSES[loss].ratio for loss in named}
    first, paths = next(iter(shown.items()))
    by_rate = {f"η = {eta:g}": of_rate(paths, eta) for eta in np.unique(paths.eta)}
    return [
        curve_plot(shown, ratios),
        curve_plot(by_rate, {first: ratios[first]}, f"The curve, {first}"),
        *(sharpness_plot(paths, f"Sharpness, {loss}") for loss, paths in shown.items()),
        _limits_plot(named),
    ]


def _limits_plot(named: Mapping[str, Paths]) -> Plot:
    """Draw where the sharpness ends over eta, and where theory has it."""
    curves = []
    for loss, paths in named.items():
        eta, gap = paths.eta[paths.beyond], gaps(paths)[paths.beyond]
        name = loss.replace("_", " ")
        curves.append(Curve(name, eta.tolist(), gap.tolist(), points=True))
        line = np.unique(paths.eta)
        of_theory = _gap(loss, line).tolist()
        curves.append(Curve(f"η / 2c, {name}", line.tolist(), of_theory))
    return Plot(
        "Limiting sharpness",
        "learning rate η",
        "2/η − sharpness at the end",
        curves,
        log_x=True,
        log_y=True,
        caption="Of the paths from beyond the edge.",
    )


# The neuron, P4-E3.

_SOON = 30
"""A neuron's q moves by eta p^2 a step, and crosses 1 soon."""

NEURON = Claim(
    "P4-E3",
    "Theorem of the single neuron; number ours",
    "A neuron's paths follow r(p), and its sharpness ends at 2/η − 1/c.",
)


def _judge_neuron(runs: Runs) -> list[Criterion]:
    paths = paths_of(runs[ONLY_POINT], "half_squared_error")
    small = paths.beyond & (paths.eta <= 0.02)
    expected = 1 / NEURON_C
    worst = np.abs(gaps(paths)[small] - expected)
    off = off_curve(paths, bifurcation.ratio_of_neuron)
    on_it = (paths.steps >= _SOON)[:, None] & (paths.q[:, paths.beyond] < 1)
    rose = paths.q[-1, paths.beyond]
    return [
        at_most(
            NEURON.id,
            f"η ≤ 0.02: largest |2/η − sharpness − {expected:g}|",
            [float(worst.max())] if worst.size else [],
            0.02,
        ),
        at_most(
            NEURON.id,
            f"largest |q / r(p) − 1| from step {_SOON} on, while q < 1",
            [float(off[on_it].max())] if on_it.any() else [],
            0.02,
        ),
        at_least(
            NEURON.id,
            "lowest q at the end",
            [float(rose.min())] if rose.size else [],
            1,
        ),
    ]


def _plots_neuron(runs: Runs) -> list[Panel]:
    paths = paths_of(runs[ONLY_POINT], "half_squared_error")
    return [
        curve_plot({"paths": paths}, {"tanh neuron": bifurcation.ratio_of_neuron}),
        sharpness_plot(paths, "Sharpness"),
    ]


# Squared error, P4-E6.

NO_CURVE = Claim(
    "P4-E6", "ours", "With squared error the end depends on the start: no common curve."
)


_SAME = 1e-6
"""A range of the sharpness, relative to the edge, below which it is rounding."""


def _spread(paths: Paths) -> float:
    """Return the range of eta sharpness / 2 at the end, of the paths that lived."""
    ends = (paths.sharpness[-1] * paths.eta / 2)[np.isfinite(paths.p[-1])]
    return float(np.ptp(ends)) if len(ends) > 1 else float("nan")


def _judge_squared(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    squared, curved = (
        paths_of(run, loss) for loss in ("half_squared_error", "log_cosh")
    )
    far = 1 / squared.q[0] > 2
    diverged = ~np.isfinite(squared.p[-1])
    return [
        at_least(
            NO_CURVE.id,
            "range of the sharpness at the end, squared error over log cosh",
            [_spread(squared) / max(_spread(curved), _SAME)],
            10,
        ),
        at_least(
            NO_CURVE.id,
            "share of the paths from beyond 4/η that diverge with squared error",
            [float(diverged[far].mean())],
            1,
        ),
        *(
            Criterion(
                NO_CURVE.id,
                f"squared error from {1 / q:.2f} × 2/η: sharpness × η / 2 at the end",
                (float(end * eta / 2),),
                None,
            )
            for q, end, eta in zip(
                squared.q[0], squared.sharpness[-1], squared.eta, strict=True
            )
            if np.isfinite(end)
        ),
    ]


def _plots_squared(runs: Runs) -> list[Panel]:
    run = runs[ONLY_POINT]
    return [
        sharpness_plot(paths_of(run, loss), f"Sharpness, {loss}")
        for loss in run.config["losses"]
    ]


# The canonical map, P4-E7.

CANONICAL = Claim(
    "P4-E7", "ours, exact", "A step differs from the canonical map's by O(η²)."
)


_FIRST = 5
"""Steps whose errors are averaged."""


def errors(paths: Paths, ratio: Ratio) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of |p' - (1 - 2 r(p) / q) p| and |q' - q| of the first steps.

    Of each path. Later on paths of other rates are at other (p, q).
    """
    p, q = paths.p[: _FIRST + 1], paths.q[: _FIRST + 1]
    mapped = (1 - 2 * ratio(p[:-1]) / q[:-1]) * p[:-1]
    return np.abs(p[1:] - mapped).mean(axis=0), np.abs(np.diff(q, axis=0)).mean(axis=0)


def _judge_canonical(runs: Runs) -> list[Criterion]:
    run, criteria = runs[ONLY_POINT], []
    for loss in run.config["losses"]:
        paths = paths_of(run, loss)
        for name, of in zip("pq", errors(paths, LOSSES[loss].ratio), strict=True):
            slope = np.polyfit(np.log(paths.eta), np.log(of), 1)[0]
            text = f"{loss}: |slope of log |error of {name}| over log η − 2|"
            criteria.append(at_most(CANONICAL.id, text, [abs(slope - 2)], 0.1))
    return criteria


def _plots_canonical(runs: Runs) -> list[Panel]:
    run = runs[ONLY_POINT]
    curves = []
    for loss in run.config["losses"]:
        paths = paths_of(run, loss)
        for name, of in zip("pq", errors(paths, LOSSES[loss].ratio), strict=True):
            curves.append(Curve(f"{name}, {loss}", paths.eta.tolist(), of.tolist()))
    return [
        Plot(
            f"A step, exact less canonical, mean of {_FIRST}",
            "learning rate η",
            "|difference|",
            curves,
            log_x=True,
            log_y=True,
        )
    ]


def _experiment(
    name: str,
    title: str,
    claims: tuple[Claim, ...],
    judge: Callable[[Runs], list[Criterion]],
    plots: Callable[[Runs], list[Panel]],
) -> Experiment:
    return Experiment(name, title, claims, judge, plots, bifurcation.run)


EXPERIMENTS = (
    _experiment("product", "The toy log cosh(x y)", (TOY,), _judge_toy, _plots_toy),
    _experiment(
        "linear",
        "Two linear layers",
        (LIMIT, OWN_CURVE),
        _judge_linear,
        _plots_linear,
    ),
    _experiment("neuron", "A tanh neuron", (NEURON,), _judge_neuron, _plots_neuron),
    _experiment(
        "squared", "Squared error", (NO_CURVE,), _judge_squared, _plots_squared
    ),
    _experiment(
        "canonical",
        "The canonical map",
        (CANONICAL,),
        _judge_canonical,
        _plots_canonical,
    ),
)
