"""The table of a sweep as Markdown and CSV, from what sweep.json holds alone."""

import csv
import io
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from experiments import tables
from experiments.figures import LABELS
from experiments.summary import WARMUP
from experiments.sweep_grid import short_names
from experiments.sweep_summary import NUMBERS

ENDED = ("finished", "diverged")
"""The statuses of a point that is not run again."""

Entry = Mapping[str, Any]
"""A point, as `summarize_point` returns it."""

_FORMS = {
    "switch_step": "{:,.0f}",
    "ratio": "{:.3f}",
    "loss": "{:.4g}",
    "alignment": "{:.3f}",
    "accuracy": "{:.2%}",
    "test_accuracy": "{:.2%}",
    "matvecs": "{:,.0f}",
    "seconds": "{:,.1f}",
}
_HEADINGS = {
    "switch_step": "switch",
    "ratio": "loss / L_sw",
    "alignment": "χ_k",
    "test_accuracy": "test accuracy",
    "matvecs": "HVPs",
}

_LONGEST_ERROR = 500  # the whole one is in sweep.json

_EXPLAINED = """\
Mean ± standard deviation over the seeds whose branch has finished. L_sw is the loss
before the switch; loss and χ_k are means over the last logged steps (`report_window`).
HVPs (Hessian-vector products) and seconds are the branch's alone; several seeds share
the seconds. The first cell of a point leads to its report."""


def rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return a flat row for each branch of each point.

    A point that has not ended, or has no branches, is one row with no branch's numbers.
    The numbers are those of the entry, as "ratio_mean" and "ratio_spread".
    """
    return [row for one in entries for row in _rows_of(one)]


def _rows_of(one: Entry) -> list[dict[str, Any]]:
    if one["status"] not in ENDED or not one["branches"]:
        return [_row(one, None, _status_without_branches(one), None)]
    return [
        _row(
            one,
            name,
            status_text(branch["status"], branch["last_step"]),
            verdict_text(branch["verdict"]),
        )
        for name, branch in one["branches"].items()
    ]


def _row(
    one: Entry, branch: str | None, status: str, verdict: str | None
) -> dict[str, Any]:
    found = {"switch_step": one["switch_step"], **one["branches"].get(branch, {})}
    row = {"point": one["point"], **one["fields"], "branch": branch, "status": status}
    for name in ("switch_step", *NUMBERS):
        number = found.get(name, {})
        row[f"{name}_mean"] = number.get("mean")
        row[f"{name}_spread"] = number.get("spread")
    return {**row, "verdict": verdict}


def _status_without_branches(one: Entry) -> str:
    """Say how the warm-up ended, where that is all that has ended."""
    if one["status"] not in ENDED:
        return str(one["status"])
    told = status_text(one[WARMUP]["status"], one[WARMUP]["last_step"])
    return f"{told}, no switch"


def status_text(statuses: Sequence[str], steps: Sequence[int | None]) -> str:
    """Return the statuses of all seeds in words, like "diverged at step 120"."""
    if len(statuses) == 1 and statuses[0] == "diverged":
        return f"diverged at step {steps[0]}"
    counts = Counter(statuses)
    if len(counts) == 1:
        return statuses[0]
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def verdict_text(verdicts: Sequence[str]) -> str:
    """Return the verdict; of several seeds, how many of those judged reproduce."""
    reproduced = verdicts.count("reproduced")
    judged = reproduced + verdicts.count("not reproduced")
    if len(verdicts) > 1 and judged:
        return f"reproduced {reproduced} of {judged}"
    return verdicts[0]


# Text.


def to_csv(entries: Iterable[Entry]) -> str:
    """Return the rows as CSV, numbers in full, the items of a list joined by spaces."""
    all_rows = rows(entries)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(all_rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in all_rows:
        writer.writerow({name: _csv_value(value) for name, value in row.items()})
    return file.getvalue()


def _csv_value(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def to_markdown(sweep: Mapping[str, Any]) -> str:
    """Return the page of a sweep, from what sweep.json holds."""
    entries = sweep["points"]
    ended = sum(one["status"] in ENDED for one in entries)
    failures = [
        f"- `{one['point']}`: {textwrap.shorten(one['error'], _LONGEST_ERROR)}"
        for one in entries
        if one["status"] == "failed"
    ]
    others = [f"- `{name}`" for name in sweep["not_in_the_grid"]]
    parts = [
        f"# {sweep['title']}",
        sweep["question"],
        f"{ended} of {len(entries)} points have ended.",
        _table(sweep["varied"], entries),
        _EXPLAINED,
        _listed("Failed, and tried again by the same command:", failures),
        _listed("From earlier grids, and not in the table:", others),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(varied: Sequence[str], entries: Iterable[Entry]) -> str:
    headings = [
        *short_names(varied).values(),
        "branch",
        "status",
        *(_HEADINGS.get(name, name) for name in _FORMS),
        "verdict",
    ]
    lines = [headings, ["---"] * len(headings)]
    for one in entries:
        for row in _rows_of(one):
            fields = [str(row[name]) for name in varied]
            if one["report"]:
                fields[0] = f"[{fields[0]}]({quote(one['report'])})"
            lines.append([*fields, *_cells(row)])
    return "\n".join(f"| {' | '.join(map(_one_line, line))} |" for line in lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row's cells behind its fields, in the order of the headings."""
    return [
        LABELS[row["branch"]] if row["branch"] else "–",
        row["status"],
        *(_mean_and_spread(row, name, form) for name, form in _FORMS.items()),
        row["verdict"] or "–",
    ]


def _mean_and_spread(row: Mapping[str, Any], name: str, form: str) -> str:
    mean = tables.number(row[f"{name}_mean"], form)
    spread = row[f"{name}_spread"]
    return mean if spread is None else f"{mean} ± {tables.number(spread, form)}"


def _listed(heading: str, items: Sequence[str]) -> str:
    return "\n\n".join([heading, "\n".join(items)]) if items else ""


def _one_line(text: str) -> str:
    """Return text on one line that cannot end a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
