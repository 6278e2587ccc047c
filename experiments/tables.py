"""The tables of a report."""

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments import page
from experiments.figures import LABELS
from experiments.json_values import flatten
from experiments.summary import BRANCHES, BranchSummary, Summary


def results(summary: Summary) -> str:
    """Return the table of final numbers beside the claims."""
    if not summary.branches:
        return ""
    columns = [_result_column(branch) for branch in summary.branches]
    names = [
        f'<span class="{branch.branch}">{LABELS[branch.branch]}</span>'
        for branch in summary.branches
    ]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    return f"""
<h2>Results</h2>
<p>The switch came at step {text(summary.switch_step)}. Loss, ratio and χ<sub>k</sub>
are means over the logged ones of the last {summary.window} steps. The ratio is to
L<sub>sw</sub> = {summary.loss_at_switch:.4g}, the mean loss over the {summary.window}
steps before the switch. HVPs (Hessian-vector products) and seconds are those of the
branch alone.</p>
{page.table(["", *names], rows)}"""


def over_seeds(summaries: Mapping[int, Summary]) -> str:
    """Return each branch's numbers as mean ± standard deviation over the seeds."""
    names = {b.branch for summary in summaries.values() for b in summary.branches}
    rows = []
    for name in (branch for branch in BRANCHES if branch in names):
        ended = [
            b
            for summary in summaries.values()
            for b in summary.branches
            if b.branch == name
        ]
        fulfilled = sum(b.verdict == "reproduced" for b in ended)
        judged = sum(b.verdict in ("reproduced", "not reproduced") for b in ended)
        rows.append(
            [
                f'<span class="{name}">{LABELS[name]}</span>',
                spread([b.loss for b in ended], "{:.4g}"),
                spread([b.ratio for b in ended], "{:.3f}"),
                spread([b.alignment for b in ended], "{:.3f}"),
                spread([b.test_accuracy for b in ended], "{:.2%}"),
                f"{fulfilled} of {judged}" if judged else "–",
            ]
        )
    switches = [s.switch_step for s in summaries.values() if s.switch_step is not None]
    headings = [
        "",
        "loss",
        "ratio, loss / L<sub>sw</sub>",
        "χ<sub>k</sub>",
        "test accuracy",
        "reproduced",
    ]
    return f"""
<h2>Over seeds</h2>
<p>Mean ± standard deviation over {len(summaries)} seeds, of which {len(switches)}
switched, at step {spread(switches, "{:.0f}")}.</p>
{page.table(headings, rows)}"""


def spread(values: Sequence[float | None], form: str) -> str:
    """Return mean ± standard deviation (n - 1) of the values that there are."""
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = number(statistics.fmean(known), form)
    if len(known) < 2:
        return mean
    return f"{mean} ± {number(statistics.stdev(known), form)}"


def _result_column(branch: BranchSummary) -> dict[str, str]:
    """Return one branch's cells by the names of their rows."""
    cost = branch.cost
    return {
        "loss": number(branch.loss, "{:.4g}"),
        "ratio, loss / L<sub>sw</sub>": f"<b>{number(branch.ratio, '{:.3f}')}</b>",
        "the paper's claim": escape(branch.claim) or "–",
        "as a criterion": branch.criterion or "none",
        "verdict": verdict(branch),
        "χ<sub>k</sub>": number(branch.alignment, "{:.3f}"),
        "accuracy": number(branch.accuracy, "{:.2%}"),
        "test accuracy": number(branch.test_accuracy, "{:.2%}"),
        "last step": text(branch.step),
        "HVPs": text(cost and cost.matvecs),
        "seconds": number(cost and cost.seconds, "{:,.1f}"),
    }


def verdict(branch: BranchSummary) -> str:
    """Return the verdict, with the reason why a branch has none or fails."""
    name = branch.verdict.replace(" ", "-")
    ended = "" if branch.status == "finished" else f" ({branch.status})"
    return f'<em class="{name}">{branch.verdict}</em>{ended}'


def certificate_table(summary: Summary) -> str:
    """Return how far the eigenspaces can be trusted."""
    certificate = summary.certificate
    if certificate is None:
        return ""
    share = certificate.num_certified / certificate.num_refreshes
    rows = [
        ["error bound, worst", number(certificate.worst_bound, "{:.2g}")],
        ["error bound, median", number(certificate.median_bound, "{:.2g}")],
        ["largest relative residual", number(certificate.worst_residual, "{:.2g}")],
        [
            "refreshes with a certified gap",
            f"{share:.1%} ({certificate.num_certified} of "
            f"{certificate.num_refreshes} in the log)",
        ],
    ]
    return f"""
<h2>Certificate</h2>
<p>Each refresh of the dominant space comes with residuals |H u − λ u|. From them and
the gap below λ<sub>k</sub> follows a bound on the sine of the largest angle to the
exact space at that step. It is infinite where the gap is too small to tell the space
from its neighbours.</p>
{page.table(["quantity", "value"], rows)}"""


def cost_table(summary: Summary) -> str:
    """Return what each part of the run took."""
    if not summary.cost:
        return ""
    rows = [
        [
            LABELS[part],
            f"{cost.steps:,}",
            f"{cost.matvecs:,}",
            _rate(cost.matvecs, cost.steps, "{:.3f}"),
            f"{cost.seconds:,.1f}",
            _rate(1000 * cost.seconds, cost.steps, "{:.2f}"),
        ]
        for part, cost in summary.cost.items()
    ]
    headings = ["", "steps", "HVPs", "HVPs a step", "seconds", "ms a step"]
    return f"""
<h2>Cost</h2>
<p>Up to the last logged step. The seconds hold everything, measurements and
compilation included; the HVPs are those of the dominant space. Its longest history has
{summary.refreshes:,} refreshes, of which {summary.failed_refreshes:,} failed and kept
the old space.</p>
{page.table(headings, rows)}"""


def provenance_tables(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return one table for each start of the run."""
    return "".join(
        f"<h3>{'Started' if index == 0 else 'Resumed'}</h3>{page.fields(flatten(run))}"
        for index, run in enumerate(runs)
    )


def text(value: Any) -> str:
    """Return an integer or another value as text; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def number(value: float | None, form: str) -> str:
    """Return a number as text; a dash for None, words for what is not finite."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    return form.format(value)


def _rate(amount: float, steps: int, form: str) -> str:
    """Return an amount a step; a dash when no step was made."""
    return form.format(amount / steps) if steps else "–"
