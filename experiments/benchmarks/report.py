"""The benchmark's report: tables in Markdown, growth curves as a picture."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.benchmarks.problems import TOL, K
from experiments.benchmarks.solvers import SOLVERS
from experiments.benchmarks.worker import LONG_SECONDS

Row = Mapping[str, Any]

FIGURE = "growth.png"

_EXPLANATION = f"""\
The top {K} eigenpairs (largest algebraic) of the Hessian of half the squared error,
in float32, on the CPU, one process a solver.

- *HVPs*: Hessian-vector products taken. A column of a block counts as one.
- *seconds*: the median of a few solves after a first one (of one, where that took over
  {LONG_SECONDS} seconds); *to ours*: the ratio within this run. *CPU seconds* sum over
  the threads. *compile*: seconds to trace and compile, once.
- *HVP ms*: the time of one HVP in the same process and library, taken in turn with the
  solves: where it differs between solvers with the same products, the machine was busy
  with something else, and *to ours* misleads. *overhead*: seconds / (HVPs x that time).
- *peak MB*: memory above what the process held with everything imported and loaded;
  in parentheses, what that was before the solve, after compilation. *planned MB*: what
  the compiler reserves for the solve itself.
- *residual*: the largest |H u - lambda u| / |lambda|, *sine*: of the largest angle to
  the exact space, both in float64. *bound*: what the solver says the sine is at most.
  {TOL:g} is the residual asked for where one can be asked for.
"""
_COLUMNS = (
    "solver",
    "HVPs",
    "seconds",
    "to ours",
    "CPU seconds",
    "HVP ms",
    "compile",
    "overhead",
    "peak MB (compile)",
    "planned MB",
    "residual",
    "sine",
    "bound",
)
_QUANTITIES = {"seconds": "seconds", "num_matvecs": "HVPs", "peak_mb": "peak MB"}
_FIT_POINTS = 3
_LABELS = {"ours": "ours", "eigsh-jax": "eigsh, same products"}


def markdown(results: Mapping[str, Any]) -> str:
    """Return the whole report."""
    parts = ["# Benchmark", _machine(results["machine"]), _EXPLANATION]
    parts += [_problem(name, p) for name, p in results["problems"].items()]
    names = [row["solver"] for p in results["problems"].values() for row in p["rows"]]
    if names:
        settings = [
            f"- `{name}`: {SOLVERS[name].label}; {SOLVERS[name].settings}."
            for name in dict.fromkeys(names)
        ]
        parts.append("\n".join(["## Solvers", "", *settings]))
    if results["growth"]:
        parts.append(_growth(results["growth"]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(
        f"{name} {version or '(not installed)'}"
        for name, version in machine["versions"].items()
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores, as many threads; load "
        f"average before the first solve: {machine['load']:.1f}.\n\n{versions}."
    )


def _problem(name: str, problem: Mapping[str, Any]) -> str:
    """Return one problem's heading, description and table."""
    lines = [f"## {name}", ""]
    if problem["status"] == "ok":
        values = problem["eigenvalues"]
        standardized = ", each pixel standardized" if problem["standardize"] else ""
        lines += [
            f"{problem['dataset']}, {problem['num_train']:,} examples{standardized}; "
            f"hidden layers {tuple(problem['hidden_sizes'])}, "
            f"{problem['num_parameters']:,} parameters; {problem['steps']:,} steps at "
            f"learning rate {problem['learning_rate']:g}; loss {problem['loss']:.4g}, "
            f"λ_1 = {values[0]:.4g}, λ_{K} / λ_{K + 1} = "
            f"{values[K - 1] / values[K]:.3f}.",
            "",
        ]
    rows = problem["rows"]
    ours = next((row.get("seconds") for row in rows if row["solver"] == "ours"), None)
    lines += _table(_COLUMNS, [_cells(row, ours) for row in rows])
    return "\n".join(lines)


def _cells(row: Row, ours: float | None) -> list[str]:
    name = f"`{row['solver']}`"
    if row["status"] != "ok":
        reason = row["status"].replace("|", "\\|")
        return [name, reason, *[""] * (len(_COLUMNS) - 2)]
    products = row["num_matvecs"] * row["seconds_per_product"]
    return [
        name,
        str(row["num_matvecs"]),
        _number(row["seconds"], ".3g"),
        _number(ours and row["seconds"] / ours, ".2f"),
        _number(row["cpu_seconds"], ".3g"),
        _number(1000 * row["seconds_per_product"], ".3g"),
        _number(row["compile_seconds"], ".1f"),
        _number(row["seconds"] / products, ".2f"),
        f"{row['peak_bytes'] / 1e6:.0f} ({row['compile_peak_bytes'] / 1e6:.0f})",
        _number(row["planned_bytes"] and row["planned_bytes"] / 1e6, ".1f"),
        _number(row["residual"], ".1e"),
        _number(row["sine"], ".1e"),
        _number(row["error_bound"], ".1e"),
    ]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)
    ]


def _growth(rows: Sequence[Row]) -> str:
    """Return the slopes, the points, and a reference to the figure."""
    slopes = [
        [curve, f"`{solver}`", *_slopes(_points(rows, curve, solver), curve)]
        for curve in _distinct(rows, "curve")
        for solver in _distinct(rows, "solver")
    ]
    measured = [
        [
            row["curve"],
            f"`{row['solver']}`",
            _number(row["parameters"], ",d"),
            f"{row['examples']:,}",
            str(row["k"]),
            *(
                [
                    str(row["num_matvecs"]),
                    _number(row["seconds"], ".3g"),
                    _number(row["seconds_per_product"], ".2g"),
                    _number(_peak_mb(row), ".0f"),
                    _number(row["planned_bytes"] and row["planned_bytes"] / 1e6, ".0f"),
                    _number(row["residual"], ".1e"),
                ]
                if row["status"] == "ok"
                else [row["status"], *[""] * 5]
            ),
        ]
        for row in rows
    ]
    columns = ["curve", "solver", "parameters", "examples", "k", "HVPs", "seconds"]
    columns += ["seconds an HVP", "peak MB", "planned MB", "residual"]
    return "\n".join(
        [
            "## Growth",
            "",
            f"![Growth curves]({FIGURE})",
            "",
            "Exponents of the growth, least-squares slopes on logarithmic axes: over "
            f"all points / over the last {_FIT_POINTS}.",
            "",
            *_table(["in", "solver", *_QUANTITIES.values()], slopes),
            "",
            *_table(columns, measured),
        ]
    )


def _slopes(points: Sequence[Row], curve: str) -> list[str]:
    """Return one cell a quantity."""
    return [
        " / ".join(
            _number(slope([(p[curve], p[quantity]) for p in part]), ".2f")
            for part in (points, points[-_FIT_POINTS:])
        )
        for quantity in _QUANTITIES
    ]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return the least-squares slope of log y over log x; None below two points."""
    if len(points) < 2:
        return None
    x, y = np.log(np.asarray(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """Draw seconds, HVPs and memory against each size, as a PNG."""
    curves = _distinct(rows, "curve")
    figure = Figure(figsize=(3.4 * len(curves), 7.2), layout="constrained")
    grid = figure.subplots(len(_QUANTITIES), len(curves), squeeze=False)
    for line, (quantity, label) in zip(grid, _QUANTITIES.items(), strict=True):
        for axes, curve in zip(line, curves, strict=True):
            _draw_panel(axes, rows, curve, quantity)
            axes.set(xlabel=curve, ylabel=label)
    grid[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def _draw_panel(axes: Axes, rows: Sequence[Row], curve: str, quantity: str) -> None:
    for solver, marker in zip(_distinct(rows, "solver"), "os^v", strict=False):
        points = _points(rows, curve, solver)
        x, y = [p[curve] for p in points], [p[quantity] for p in points]
        axes.plot(x, y, marker=marker, label=_LABELS.get(solver, solver))
    axes.set(xscale="log", yscale="log")
    axes.grid(which="major", linewidth=0.5)


def _points(rows: Sequence[Row], curve: str, solver: str) -> list[dict[str, Any]]:
    """Return the measured points of one line."""
    return [
        {**row, "peak_mb": _peak_mb(row)}
        for row in rows
        if (row["curve"], row["solver"], row["status"]) == (curve, solver, "ok")
    ]


def _peak_mb(row: Row) -> float:
    # A solve that fits into what importing had freed takes nothing: no logarithm.
    return row["peak_bytes"] / 1e6 or math.nan


def _distinct(rows: Sequence[Row], field: str) -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))
