"""The numbers of a sweep's point over its seeds, from its run's summaries alone."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.summary import BRANCHES, WARMUP, BranchSummary, Summary

NUMBERS = (
    "ratio",
    "loss",
    "alignment",
    "accuracy",
    "test_accuracy",
    "matvecs",
    "seconds",
)
"""Of a branch: those of `BranchSummary` and of its `cost`."""


def summarize_point(
    name: str,
    fields: Mapping[str, Any],
    status: Mapping[str, Any],
    summaries: Mapping[int, Summary],
) -> dict[str, Any]:
    """Return what sweep.json tells of a point.

    Args:
      name: the point's.
      fields: the values of what the sweep varies.
      status: as in status.json; or "not started", or "failed" with an "error".
      summaries: by seed, as `summarize_seeds` returns them.

    Returns:
      JSON values; the warm-up by itself and the others under "branches". Each of the
      `NUMBERS` has "values", one a seed, None where there is none, and their "mean" and
      "spread" (standard deviation, n - 1) over the seeds whose branch has finished,
      None where there are not one, or two, of them. Of the warm-up the loss is the one
      before the switch, or before its end where there was none.
    """
    seeds = list(summaries)
    branches = {
        branch: _summarize_branch([_of_branch(summaries[s], branch) for s in seeds])
        for branch in BRANCHES
    }
    return {
        "point": name,
        "fields": dict(fields),
        "status": status["status"],
        "error": status.get("error"),
        "seeds": seeds,
        "seconds": status.get("seconds"),
        "switch_step": _over_seeds([summaries[s].switch_step for s in seeds]),
        WARMUP: _summarize_warmup(status, list(summaries.values())),
        "branches": {
            branch: told
            for branch, told in branches.items()
            if any(step is not None for step in told["last_step"])
        },
    }


def _of_branch(summary: Summary, name: str) -> BranchSummary | None:
    return next((branch for branch in summary.branches if branch.branch == name), None)


def _summarize_warmup(
    status: Mapping[str, Any], members: Sequence[Summary]
) -> dict[str, Any]:
    unended = {"status": status["status"], "step": None}
    told = (status.get("branches") or {}).get(WARMUP, unended)
    outcomes = told if isinstance(told, list) else [told] * len(members)
    costs = [member.cost.get(WARMUP) for member in members]
    return {
        "status": [outcome["status"] for outcome in outcomes],
        "last_step": [outcome["step"] for outcome in outcomes],
        "loss": _over_seeds([member.loss_at_switch for member in members]),
        "matvecs": _over_seeds([cost and cost.matvecs for cost in costs]),
        "seconds": _over_seeds([cost and cost.seconds for cost in costs]),
    }


def _summarize_branch(members: Sequence[BranchSummary | None]) -> dict[str, Any]:
    """Summarize a branch of all seeds; None stands for one that did not switch."""
    finished = [b is not None and b.status == "finished" for b in members]
    numbers = {
        name: _over_seeds([_number(b, name) for b in members], finished)
        for name in NUMBERS
    }
    return {
        "status": [b.status if b else "not started" for b in members],
        "last_step": [b.step if b else None for b in members],
        "verdict": [b.verdict if b else "no verdict" for b in members],
        **numbers,
    }


def _number(branch: BranchSummary | None, name: str) -> float | None:
    """Return one of the `NUMBERS`, where there is one."""
    if branch is None:
        return None
    source = branch.cost if name in ("matvecs", "seconds") else branch
    return getattr(source, name, None)


def _over_seeds(
    values: Sequence[float | None], counted: Iterable[bool] | None = None
) -> dict[str, Any]:
    """Return the values, and mean and spread of those that count and are finite."""
    chosen = [True] * len(values) if counted is None else counted
    pairs = zip(values, chosen, strict=True)
    known = [v for v, counts in pairs if counts and v is not None and math.isfinite(v)]
    return {
        "mean": statistics.fmean(known) if known else None,
        "spread": statistics.stdev(known) if len(known) > 1 else None,
        "values": list(values),
    }
