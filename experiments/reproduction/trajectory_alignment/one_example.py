"""Networks with one example: P4-E1 to E3 and E5 to E7."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments import bifurcation
from experiments.bifurcation import LOSSES, NEURON_C
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import at_least, at_most
from experiments.reproduction.plots import Curve, Level, Panel, Plot

Ratio = Callable[[Any], Any]

_SETTLED = 100
"""The step from which on a path beyond the edge should be on the curve."""

_HIGHEST_DRAWN = 8.0
"""Of the sharpness over the edge: beyond it a path has diverged."""

_DECIDED = 10
"""The step at which a path is beyond the edge, q < 1, or below it."""


class Paths(NamedTuple):
    """A branch's paths: [lines, paths], and what they have at the start, [paths].

    steps: of the lines. beyond: whether q < 1 at step 10.
    """

    steps: np.ndarray
    p: np.ndarray
    q: np.ndarray
    sharpness: np.ndarray
    eta: np.ndarray
    beyond: np.ndarray


def paths_of(run: Run, branch: str) -> Paths:
    """Return the paths of a loss."""
    lines = [line for line in run.lines if line["branch"] == branch]
    steps = np.array([line["step"] for line in lines])
    p, q, sharpness, eta = (
        np.array([line[f"path/{name}"] for line in lines], float)
        for name in ("p", "q", "sharpness", "learning_rate")
    )
    decided = q[np.flatnonzero(steps == _DECIDED)[0]]
    return Paths(steps, p, q, sharpness, eta[0], decided < 1)


def off_curve(paths: Paths, ratio: Ratio) -> np.ndarray:
    """Return |q / r(p) - 1| of the paths beyond the edge, [lines, paths]."""
    return np.abs(paths.q / ratio(paths.p) - 1)[:, paths.beyond]


def gaps(paths: Paths) -> np.ndarray:
    """Return 2 / eta - sharpness at the end, of each path."""
    return 2 / paths.eta - paths.sharpness[-1]


def of_rate(paths: Paths, eta: float) -> Paths:
    """Return the paths of one learning rate."""
    kept = paths.eta == eta
    return paths._replace(
        p=paths.p[:, kept],
        q=paths.q[:, kept],
        sharpness=paths.sharpness[:, kept],
        eta=paths.eta[kept],
        beyond=paths.beyond[kept],
    )


def curve_plot(
    named: Mapping[str, Paths], ratios: Mapping[str, Ratio], title: str = "The curve"
) -> Plot:
    """Draw the bifurcation diagram: q over |p|, a colour a name, and the orbits.

    Those of p <- (1 - 2 r(p) / q) p at a fixed q: 0, stable where q > 1, and where q
    is below 1 the one of period two, on the curves r.
    """
    curves = []
    for name, paths in named.items():
        for i in range(len(paths.eta)):
            settled = (paths.steps >= _DECIDED) & np.isfinite(paths.p[:, i])
            x, y = np.abs(paths.p[settled, i]), paths.q[settled, i]
            curves.append(Curve(name, x.tolist(), y.tolist(), points=True))
    largest = max((max(curve.x, default=0) for curve in curves), default=1)
    z = np.linspace(0, largest, 200)
    for name, ratio in ratios.items():
        curves.append(Curve(f"r, {name}", z.tolist(), ratio(z).tolist()))
    highest = max((max(curve.y, default=1) for curve in curves), default=1)
    curves.append(Curve("p = 0, stable", [0, 0], [1, max(highest, 1.2)], "plain"))
    curves.append(Curve("p = 0, unstable", [0, 0], [0, 1], "tail"))
    return Plot(
        title,
        "|p|, the residual",
        "q = 2 / (η ‖∇f‖²)",
        curves,
        caption=f"Each path from step {_DECIDED} on. Beyond the edge q is below 1.",
    )


def sharpness_plot(paths: Paths, title: str) -> Plot:
    """Draw the sharpness times eta / 2 over the steps, until a path diverges."""
    curves = []
    for i, eta in enumerate(paths.eta):
        y = paths.sharpness[:, i] * eta / 2
        gone = np.flatnonzero(~(y < _HIGHEST_DRAWN))
        end = gone[0] if gone.size else len(y)
        x = paths.steps[:end] + 1
        curves.append(Curve(f"η = {eta:g}", x.tolist(), y[:end].tolist()))
    edge = [Level("edge of stability", 1.0)]
    return Plot(title, "step + 1", "sharpness × η / 2", curves, edge, log_x=True)


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
