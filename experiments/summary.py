"""The numbers of a finished run, from its records alone.

A run is a warm-up and, from the step where the gradient has aligned with the dominant
space, three branches that start from one and the same state.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WARMUP = "warmup"
BRANCHES = ("plain", "dom", "bulk", "interpolated")

Line = Mapping[str, Any]
"""One logged step, as `experiments.records.read_metrics` returns it."""


class Cost(NamedTuple):
    """What one part of a run took, between its first and its last logged step.

    The warm-up is counted from zero, so that it includes the first solve.
    """

    steps: int
    matvecs: int
    seconds: float


class BranchSummary(NamedTuple):
    """The end of one branch, beside what the paper says of it.

    status: finished, diverged, running, interrupted, or not started.
    step: the last step it reached; None when it never started.
    loss: mean of the full training loss over the last `window` steps.
    ratio: that loss over the one before the switch.
    alignment: mean of chi_k of the full gradient over the last `window` steps.
    accuracy, test_accuracy: the last logged ones; None when never logged.
    cost: None when nothing was logged.
    claim: the paper's claim in words.    criterion: the conditions that it is held to.
    verdict: "reproduced", "not reproduced", "reported" (there is no criterion), or
      "no verdict" (the run is not there yet).
    """

    branch: str
    status: str
    step: int | None
    loss: float
    ratio: float
    alignment: float
    accuracy: float | None
    test_accuracy: float | None
    cost: Cost | None
    claim: str
    criterion: str
    verdict: str


class Certificate(NamedTuple):
    """How far the eigenspaces of the logged refreshes can be trusted.

    num_refreshes: the refreshes seen in the log. One that several logged steps of a
      branch share counts once; of several between two logged steps only the last one is
      seen.
    num_certified: those with a positive gap, so that `error_bound` is finite.
    median_bound, worst_bound: of `subspace/error_bound`, sines of an angle.
    worst_residual: the largest |H u - lambda u| / |lambda| of any eigenpair.
    """

    num_refreshes: int
    num_certified: int
    median_bound: float
    worst_bound: float
    worst_residual: float


class Summary(NamedTuple):
    """A run in numbers.

    status: of the whole run.    switch_step: None when the switch never came.
    last_step: the last step of the warm-up.    window: in steps.
    loss_at_switch: mean full training loss over the `window` steps up to the switch, or
      up to the end of the warm-up when there was no switch.
    branches: those that the run has; empty when there was no switch.
    certificate: None when nothing was logged.
    cost: by part, the warm-up first.
    refreshes, failed_refreshes: counted along the longest history of the run.
    """

    status: str
    switch_step: int | None
    last_step: int | None
    window: int
    loss_at_switch: float
    branches: tuple[BranchSummary, ...]
    certificate: Certificate | None
    cost: dict[str, Cost]
    refreshes: int
    failed_refreshes: int


def summarize(
    config: Mapping[str, Any], status: Mapping[str, Any], lines: Sequence[Line]
) -> Summary:
    """Summarize a run from `config.json`, `status.json` and `metrics.jsonl`."""
    window = config.get("report_window", 100)
    parts = {part: of_branch(lines, part) for part in (WARMUP, *BRANCHES)}
    warmup, switch_step = parts[WARMUP], status.get("switch_step")
    loss_at_switch = _window_mean(warmup, "loss/full", window)
    branches: tuple[BranchSummary, ...] = ()
    if switch_step is not None:
        loss_of_plain = _window_mean(parts["plain"], "loss/full", window)
        branches = tuple(
            _summarize_branch(
                branch, config, status, parts[branch], loss_at_switch, loss_of_plain
            )
            for branch in BRANCHES
            if branch in config.get("modes", BRANCHES)
        )
    return Summary(
        status=status["status"],
        switch_step=switch_step,
        last_step=warmup[-1]["step"] if warmup else None,
        window=window,
        loss_at_switch=loss_at_switch,
        branches=branches,
        certificate=_certificate(lines),
        cost={part: _cost(part, logged) for part, logged in parts.items() if logged},
        refreshes=max((line.get("cost/refreshes", 0) for line in lines), default=0),
        failed_refreshes=max(
            (line.get("cost/failed_refreshes", 0) for line in lines), default=0
        ),
    )


def summarize_seeds(
    config: Mapping[str, Any], status: Mapping[str, Any], lines: Sequence[Line]
) -> dict[int, Summary]:
    """Summarize each seed of a run; those without a line yet are left out."""
    summaries, num_seeds = {}, config.get("seeds", 1)
    for index in range(num_seeds):
        seed = config.get("seed", 0) + index
        of_seed = lines_of_seed(lines, seed)
        if of_seed:
            own = _status_of_seed(status, index) if num_seeds > 1 else status
            summaries[seed] = summarize(config, own, of_seed)
    return summaries


def lines_of_seed(lines: Iterable[Line], seed: int) -> list[Line]:
    """Return the lines of one seed."""
    return [line for line in lines if line.get("seed", seed) == seed]


def _status_of_seed(status: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return the status with one seed's outcomes in place of all seeds'."""
    branches = status.get("branches") or {}
    return {
        **status,
        "switch_step": status["switch_step"][index],
        "branches": {name: outcomes[index] for name, outcomes in branches.items()},
    }


def of_branch(lines: Iterable[Line], branch: str) -> list[Line]:
    """Return the lines of one branch, in the order of their steps."""
    chosen = [line for line in lines if line["branch"] == branch]
    return sorted(chosen, key=lambda line: line["step"])


def _summarize_branch(
    branch: str,
    config: Mapping[str, Any],
    status: Mapping[str, Any],
    lines: Sequence[Line],
    loss_at_switch: float,
    loss_of_plain: float,
) -> BranchSummary:
    """Put the end of one branch beside its claim."""
    window = config.get("report_window", 100)
    claim = (config.get("claims") or {}).get(branch, {})
    unended = {"status": status["status"] if lines else "not started"}
    state = (status.get("branches") or {}).get(branch, unended)
    loss = _window_mean(lines, "loss/full", window)
    conditions = _conditions(claim, loss, loss_at_switch, loss_of_plain)
    return BranchSummary(
        branch=branch,
        status=state["status"],
        step=state.get("step", lines[-1]["step"] if lines else None),
        loss=loss,
        ratio=_ratio(loss, loss_at_switch),
        alignment=_window_mean(lines, "alignment/gradient", window),
        accuracy=_last(lines, "accuracy/full"),
        test_accuracy=_last(lines, "accuracy/test"),
        cost=_cost(branch, lines) if lines else None,
        claim=claim.get("text", ""),
        criterion=", ".join(conditions),
        verdict=_verdict(state["status"], conditions),
    )


def _conditions(
    claim: Mapping[str, Any], loss: float, loss_at_switch: float, loss_of_plain: float
) -> dict[str, bool]:
    """Return the conditions of a claim in words, and whether each one holds.

    min_ratio, max_ratio: bounds on the loss over the loss at the switch.
    max_difference_to_plain: bound on |loss / loss of the plain branch - 1|.
    """
    ratio = _ratio(loss, loss_at_switch)
    conditions = {}
    if "min_ratio" in claim:
        bound = claim["min_ratio"]
        conditions[f"ratio ≥ {bound:g}"] = ratio >= bound
    if "max_ratio" in claim:
        bound = claim["max_ratio"]
        conditions[f"ratio ≤ {bound:g}"] = ratio <= bound
    if "max_difference_to_plain" in claim:
        bound = claim["max_difference_to_plain"]
        difference = abs(_ratio(loss, loss_of_plain) - 1)
        conditions[f"within {bound:.0%} of plain"] = difference <= bound
    return conditions


def _verdict(status: str, conditions: Mapping[str, bool]) -> str:
    """Judge a branch; one that diverged fulfils no claim."""
    if status not in ("finished", "diverged"):
        return "no verdict"
    if not conditions:
        return "reported"
    holds = status == "finished" and all(conditions.values())
    return "reproduced" if holds else "not reproduced"


def _ratio(loss: float, reference: float) -> float:
    """Return loss / reference, NaN for a reference of zero."""
    return loss / reference if reference else math.nan


def _window_mean(lines: Sequence[Line], name: str, window: int) -> float:
    """Average a metric over the lines of the last `window` steps; NaN without any."""
    if not lines:
        return math.nan
    first = lines[-1]["step"] - window
    values = [line[name] for line in lines if line["step"] > first and name in line]
    return statistics.fmean(values) if values else math.nan


def _last(lines: Sequence[Line], name: str) -> float | None:
    """Return the last logged value of a metric that not every line carries."""
    return next((line[name] for line in reversed(lines) if name in line), None)


def _cost(part: str, lines: Sequence[Line]) -> Cost:
    """Return what was spent between the first and the last of these lines."""

    def spent(name: str) -> Any:
        start = 0 if part == WARMUP else lines[0].get(name, 0)
        return lines[-1].get(name, 0) - start

    return Cost(
        steps=lines[-1]["step"] - lines[0]["step"],
        matvecs=spent("cost/matvecs"),
        seconds=spent("time/seconds"),
    )


def _certificate(lines: Iterable[Line]) -> Certificate | None:
    """Collect the error bounds, one for each refresh in the log."""
    refreshes = {
        (line["branch"], line["cost/refreshes"]): line
        for line in lines
        if "subspace/error_bound" in line
    }
    if not refreshes:
        return None
    bounds = [_nan_as_inf(line["subspace/error_bound"]) for line in refreshes.values()]
    return Certificate(
        num_refreshes=len(bounds),
        num_certified=sum(math.isfinite(bound) for bound in bounds),
        median_bound=statistics.median(bounds),
        worst_bound=max(bounds),
        worst_residual=max(map(_worst_residual, refreshes.values())),
    )


def _worst_residual(line: Line) -> float:
    """Return the largest residual relative to its own eigenvalue; 0 without any."""
    pairs = zip(line["subspace/residuals"], line["subspace/eigenvalues"], strict=True)
    relative = [
        _nan_as_inf(residual / abs(value)) if value else math.inf
        for residual, value in pairs
    ]
    return max(relative, default=0.0)


def _nan_as_inf(value: float) -> float:
    """Order NaN after every number: an unknown error is as bad as can be."""
    return math.inf if math.isnan(value) else value
