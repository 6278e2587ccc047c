"""Networks with one and with many examples, and Bulk-GD at the edge: P4-E4 and E5."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.bifurcation import LOSSES
from experiments.reproduction.curves import NAMES, loss_plot, metric_curves, switches
from experiments.reproduction.design import ONLY_POINT
from experiments.reproduction.experiment import Claim, Criterion, Experiment, Run, Runs
from experiments.reproduction.judging import (
    Line,
    at_least,
    at_most,
    by_seed,
    ends,
    series,
)
from experiments.reproduction.plots import Curve, Level, Panel, Plot

_FEWEST = 30
"""Steps with q < 1 of a run that is judged: it takes some to come to the curve."""

_APART = 0.05
"""How far apart, relatively, two curves have to be to tell which one a point is on."""

_FEWEST_APART = 10
"""Points of a run that can tell."""

_EXPLAINED = 0.5
"""What may be left of q's distance from 1 where the curve is bent."""

_ENOUGH = 0.75
"""The share of the runs that has to be beyond the edge for so long; else no verdict."""


class Path(NamedTuple):
    """Steps, p and q of a run, [steps], and which of them are beyond the edge, q < 1.

    size: |p| sqrt(N sum w^4), at which the curve is to be read: of one example |p|.
    late: of these the last half. settled: all but the first thirty.
    """

    steps: np.ndarray
    p: np.ndarray
    q: np.ndarray
    size: np.ndarray
    beyond: np.ndarray
    late: np.ndarray
    settled: np.ndarray


def path_of(lines: Sequence[Line]) -> Path:
    """Return the path of one seed's lines."""
    steps, residuals = series(lines, "canonical/p")
    p = np.array(residuals, float)
    q = np.array(series(lines, "canonical/q")[1], float)
    beyond = q < 1
    place = np.cumsum(beyond)
    late, settled = beyond & (place > beyond.sum() / 2), beyond & (place > _FEWEST)
    concentration = np.array(series(lines, "canonical/concentration")[1], float)
    size = np.abs(p) * np.sqrt(concentration)
    return Path(np.array(steps), p, q, size, beyond, late, settled)


def off_curve(path: Path, loss: str) -> np.ndarray:
    """Return |q / r(size) - 1| of each step."""
    return np.abs(path.q / LOSSES[loss].ratio(path.size) - 1)


def tells(path: Path, ratio: Callable[[Any], Any], other: Callable) -> np.ndarray:
    """Return the settled steps at which two curves are apart; none if these are few."""
    apart = np.abs(ratio(path.size) / other(path.size) - 1) > _APART
    found = path.settled & apart
    return found & (found.sum() >= _FEWEST_APART)


def _loss(run: Run) -> str:
    return str(run.config["task"]["loss"])


def _path(run: Run) -> Path:
    return path_of(by_seed(run, "plain")[0])


def _name(run: Run) -> str:
    task, rate = run.config["task"], run.config["optimizer"]["learning_rate"]
    words = f"{task['activation']}, {_loss(run).replace('_', ' ')}, η = {rate:g}"
    many = f", N = {task['num_train']}" if task["num_train"] > 1 else ""
    return f"{words}, α = {task['init_scale']:g}{many}"


def _unexplained(q: np.ndarray, r: np.ndarray, where: np.ndarray) -> float:
    """Return median |q - r| over the median of how far q or r is below 1.

    0 on the curve; 1 where q stays at 1 though the curve is bent, and where q is below
    1 though the curve is not.
    """
    below = np.maximum(1 - r, 1 - q)
    return float(np.median(np.abs(q - r)[where]) / np.median(below[where]))


def _bent(path: Path, r: Callable[[Any], Any]) -> np.ndarray:
    """Return the settled steps at which q or r is clearly below 1; none if few.

    Where both are near 1, q near r is no sign of the curve.
    """
    below = np.maximum(1 - r(path.size), 1 - path.q)
    found = path.settled & (below > _APART)
    return found & (found.sum() >= _FEWEST_APART)


def _judge_on_curve(claim: Claim, bound: float) -> Callable[[Runs], list[Criterion]]:
    """Return a judge of the runs that are beyond the edge for at least thirty steps."""

    def judge(runs: Runs) -> list[Criterion]:
        late, bent, reported, missing = [], [], [], []
        for run in runs.values():
            path, loss = _path(run), _loss(run)
            if path.beyond.sum() < _FEWEST:
                missing.append(f"{_name(run)} ({path.beyond.sum()})")
                continue
            r = LOSSES[loss].ratio
            off = np.abs(path.q / r(path.p) - 1)
            late.append(float(np.median(off[path.late])))
            note = f"{path.beyond.sum()} steps beyond the edge"
            telling = _bent(path, r)
            if telling.any():
                bent.append(_unexplained(path.q, r(path.size), telling))
                note += f"; {bent[-1]:.2g} at {telling.sum()} steps clearly below 1"
            text = f"{_name(run)}: median |q / r(p) − 1|"
            reported.append(Criterion(claim.id, text, (late[-1],), None, note))
        note = ""
        if missing:
            note = f"beyond the edge for too few steps: {'; '.join(missing)}"
        enough = len(late) >= _ENOUGH * len(runs)
        return [
            at_most(
                claim.id,
                f"largest median of {len(late)} runs' |q / r(p) − 1|, over the last "
                "half of the steps with q < 1",
                [max(late)] if enough else [],
                bound,
                note,
            ),
            at_most(
                claim.id,
                f"largest of {len(bent)} runs' median |q − r| over that of how far q "
                f"or r is below 1, where by {_APART:g}, after {_FEWEST} steps; "
                "r at p √(N Σ w⁴)",
                [max(bent)] if enough and bent else [],
                _EXPLAINED,
            ),
            *reported,
        ]

    return judge


def _judge_own_curve(runs: Runs) -> list[Criterion]:
    """Hold settled points to their own loss' curve, where both are apart."""
    nearer, points, missing = [], [], []
    for run in runs.values():
        path, loss = _path(run), _loss(run)
        (other,) = (name for name in ("log_cosh", "sqrt") if name != loss)
        telling = tells(path, LOSSES[loss].ratio, LOSSES[other].ratio)
        if telling.any():
            is_nearer = off_curve(path, loss) < off_curve(path, other)
            nearer.append(float(is_nearer[telling].mean()))
            points.append(is_nearer[telling])
        else:
            missing.append(_name(run))
    where = f"where both are {_APART:.0%} apart, after {_FEWEST} steps beyond the edge"
    few = f"fewer than {_FEWEST_APART} such points: {'; '.join(missing)}"
    note = few if missing else ""
    return [
        at_least(
            OWN_CURVE.id,
            f"share of points nearer to their own loss' curve, {where}",
            [float(np.concatenate(points).mean())] if points else [],
            0.95,
            note,
        ),
        at_least(
            OWN_CURVE.id,
            f"the same of the lowest of {len(nearer)} runs",
            [min(nearer)] if nearer else [],
            0.95,
        ),
    ]


_CAPTION = f"Steps with q < 1, but for the first {_FEWEST}."


def _curve_plots(runs: Runs) -> list[Panel]:
    """Draw each loss' points and curve, a colour an activation and a set."""
    plots: list[Panel] = []
    for loss in dict.fromkeys(map(_loss, runs.values())):
        curves = []
        for run in runs.values():
            if _loss(run) != loss:
                continue
            path, task = _path(run), run.config["task"]
            name = f"{task['activation']}, N = {task['num_train']}"
            x, y = path.size[path.settled], path.q[path.settled]
            curves.append(Curve(name, x.tolist(), y.tolist(), points=True))
        largest = max((max(curve.x, default=0) for curve in curves), default=0)
        z = np.linspace(0, max(largest, 0.1), 200)
        title = f"The curve, {loss.replace('_', ' ')}"
        curves.append(Curve("q = r(p)", z.tolist(), LOSSES[loss].ratio(z).tolist()))
        plots.append(Plot(title, "|p| √(N Σ w⁴)", "q", curves, caption=_CAPTION))
    return plots


def _history_plot(runs: Runs) -> Plot:
    curves = [
        Curve(_name(run), (path.steps + 1).tolist(), (1 / path.q).tolist())
        for run in runs.values()
        for path in [_path(run)]
        if _loss(run) == "log_cosh"
    ]
    edge = [Level("edge of stability", 1.0)]
    label = "1 / q = η λ_max(J Jᵀ) / 2 N"
    return Plot("Log cosh over time", "step + 1", label, curves, edge, True, True)


ONE = Claim(
    "P4-E4 one",
    "Sec. 4; criterion ours",
    "Beyond the edge networks with one example lie on the curve of their loss.",
)
MANY = Claim(
    "P4-E4",
    "Sec. 4; criterion and form of p ours",
    "With many examples they lie near it.",
)
OWN_CURVE = Claim(
    "P4-E5 networks",
    "Sec. 4; criterion ours",
    "The curve follows the loss, not the network.",
)


def _plots(runs: Runs) -> list[Panel]:
    return [*_curve_plots(runs), _history_plot(runs)]


# Bulk-GD.

SELF_STABILIZATION = Claim(
    "P4 Bulk-GD",
    "ours, after Damian et al. 2022",
    "What holds gradient descent at the edge is its oscillation along the first "
    "eigenvector: Bulk-GD leaves the curve, and its loss goes on.",
)


def _branches(run: Run) -> Mapping[str, Path]:
    """Return the path of each branch, from the switch on."""
    return {
        mode: path_of(
            [line for line in by_seed(run, mode)[0] if line["branch"] == mode]
        )
        for mode in run.config["modes"]
    }


def _last(values: np.ndarray, num: int) -> float:
    return float(np.mean(values[-num:]))


def _judge_bulk(runs: Runs) -> list[Criterion]:
    run = runs[ONLY_POINT]
    paths, num = _branches(run), run.config["report_window"]
    off = {
        mode: _last(off_curve(path, _loss(run)), num) for mode, path in paths.items()
    }
    turns = {
        mode: float(np.mean(np.diff(np.sign(path.p[1 : num + 1])) != 0))
        for mode, path in paths.items()
    }
    loss = {mode: ends(run, mode)[0].loss for mode in paths}
    q = {mode: _last(path.q, num) for mode, path in paths.items()}
    claim = SELF_STABILIZATION.id
    return [
        at_most(claim, "GD: mean |q / r(p) − 1| at the end", [off["plain"]], 0.1),
        at_most(
            claim, "Bulk-GD: q at the end over GD's", [q["bulk"] / q["plain"]], 0.9
        ),
        at_least(
            claim,
            "GD: share of its first steps at which p changes sign",
            [turns["plain"]],
            0.8,
        ),
        at_most(
            claim,
            "Bulk-GD: share of its first steps at which p changes sign",
            [turns["bulk"]],
            0.1,
        ),
        at_most(
            claim,
            "Bulk-GD's loss over GD's, at the end",
            [loss["bulk"] / loss["plain"]],
            1.1,
        ),
        Criterion(claim, "q at the switch", (float(paths["plain"].q[0]),), None),
        *(
            Criterion(claim, f"{NAMES[mode]}: {text}", (values[mode],), None)
            for text, values in (
                ("q at the end", q),
                ("share of its first steps at which p changes sign", turns),
                ("loss at the end", loss),
            )
            for mode in paths
            if math.isfinite(values[mode])
        ),
    ]


def _plots_bulk(runs: Runs) -> list[Panel]:
    run = runs[ONLY_POINT]
    paths = _branches(run)
    ratio: Any = LOSSES[_loss(run)].ratio
    points = [
        Curve(
            NAMES[mode],
            path.size.tolist(),
            path.q.tolist(),
            mode,
            points=True,
        )
        for mode, path in paths.items()
    ]
    largest = max(max(curve.x) for curve in points)
    z = np.linspace(0, largest, 200)
    points.append(Curve("q = r(p)", z.tolist(), ratio(z).tolist(), "average"))
    edge = [Level("edge of stability", 1.0), *switches(run)]
    return [
        Plot("From the switch on", "|p| √(N Σ w⁴)", "q", points),
        Plot("p", "step", "p", metric_curves(run, "canonical/p"), switches(run)),
        Plot(
            "Sharpness",
            "step",
            "λ_1 η / 2",
            metric_curves(run, "sharpness/over_edge"),
            edge,
        ),
        loss_plot(run),
    ]


EXPERIMENTS = (
    Experiment(
        "networks_one",
        "Networks with one example",
        (ONE, OWN_CURVE),
        lambda runs: [*_judge_on_curve(ONE, 0.1)(runs), *_judge_own_curve(runs)],
        _plots,
    ),
    Experiment(
        "networks",
        "Networks with many examples",
        (MANY,),
        _judge_on_curve(MANY, 0.2),
        _plots,
    ),
    Experiment(
        "bulk_gd",
        "Bulk-GD at the edge of stability",
        (SELF_STABILIZATION,),
        _judge_bulk,
        _plots_bulk,
    ),
)
