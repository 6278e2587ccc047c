"""The tables of a report."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from experiments import page
from experiments.figures import LABELS
from experiments.json_values import flatten
from experiments.summary import BranchSummary, Summary


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
