"""The report of a reproduction: one page that needs no other file and no network.

    write_page(folder / "index.html", page)

Every verdict on it is computed from the criteria. The same in short for the
documentation: `markdown.to_markdown`.
"""

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from experiments import page as form
from experiments.reproduction import outcome, words
from experiments.reproduction.cells import cells
from experiments.reproduction.drawing import MAX_POINTS, points
from experiments.reproduction.experiment import REPRODUCED, Claim
from experiments.reproduction.interactive import figure_html, plotly_script
from experiments.reproduction.outcome import Entry as Entry
from experiments.reproduction.outcome import Page as Page
from experiments.reproduction.plots import Map, Panel

# No request can leave the page, whatever a script on it might try.
_HEAD = """
<meta http-equiv="Content-Security-Policy" content="default-src 'none';
 script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<style>
h1, h2, h3 { overflow-wrap: anywhere; }
section { border-top: 1px solid var(--grid); margin-top: 2.8rem; }
section h2 { margin-top: 1.4rem; }
h3 { margin: 1.6rem 0 .4rem; }
section summary { font-size: 1rem; }
section details, .links { margin-top: 1rem; }
a { color: var(--plain); }
em { font-style: normal; font-weight: 600; }
.partly { color: var(--amber); }
.wide { min-width: 13rem; }
.value { white-space: nowrap; }
.plots {
  display: grid; gap: 1.4rem 2rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
}
.plots h4 { font-size: .95rem; margin: 0; }
.plot { min-height: 380px; overflow-x: auto; }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid var(--grid); }
pre code { overflow-wrap: normal; }
@media print { .plot { break-inside: avoid; } }
</style>"""


def write_page(path: Path, page: Page) -> Path:
    """Write the report and return its path; links to files are relative to it.

    Raises:
      ValueError: for two experiments of one name or two claims of one id, for a
        criterion of a claim that the experiment lacks, and for figures that cannot be
        drawn (`drawing`, `cells`).
    """
    outcome.check(page)
    body = [
        *_paragraphs(page.introduction),
        _outcome(page),
        "<h2>Verdicts</h2>",
        _verdict_table(page),
        "<h2>How it was made</h2>",
        _provenance(page),
        *(_section(entry, page, path.parent) for entry in page.entries),
        plotly_script(),
    ]
    path.write_text(form.render(page.title, body, _HEAD), encoding="utf-8")
    return path


def _paragraphs(text: str) -> list[str]:
    return [f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part]


def _outcome(page: Page) -> str:
    """Say what came out, and plainly what was not reproduced and why."""
    claims = outcome.claims(page)
    counted = words.count([word for _, _, word in claims])
    short = "".join(
        f"<li>{_link(entry, claim.id)}: {_badge(word)}. "
        f"{escape(words.shortfall(claim, entry.criteria, entry.status))}</li>"
        for entry, claim, word in claims
        if word != REPRODUCED
    )
    text = f"At the scale <b>{escape(page.scale)}</b>. {counted}"
    if not short:
        return f"<p>{text}</p>"
    text += " What was not reproduced:"
    return f'<div class="note"><p>{text}</p><ul>{short}</ul></div>'


def _verdict_table(page: Page) -> str:
    rows = [
        [
            f'<span class="value">{_link(entry, claim.id)}</span>',
            _badge(word),
            _wide(claim.text),
            _value(claim.source),
        ]
        for entry, claim, word in outcome.claims(page)
    ]
    return form.table(["id", "verdict", "claim", "source"], rows)


def _wide(text: str) -> str:
    """Return the cell of a sentence, which needs some width."""
    return f'<div class="wide">{escape(text)}</div>'


def _value(text: str) -> str:
    """Return the cell of a value, which stays on one line."""
    return f'<span class="value">{escape(text)}</span>'


def _link(entry: Entry, text: str) -> str:
    return f'<a href="#{escape(entry.experiment.name)}">{escape(text)}</a>'


def _badge(word: str) -> str:
    return f'<em class="value {word.replace(" ", "-")}">{word}</em>'


def _provenance(page: Page) -> str:
    """Return the provenance, and the rule by which curves are thinned."""
    rows = [[escape(name), escape(text)] for name, text in page.provenance.items()]
    thinned = (
        f"Curves of more than {MAX_POINTS:,} points are thinned to fewer, keeping the "
        "largest and the smallest values of each short stretch. A click on a name in a "
        "legend hides or shows its curves, a double click shows them alone."
    )
    script = "<noscript> The figures need JavaScript; their files do not.</noscript>"
    return f"{form.table(['', ''], rows)}<p>{thinned}{script}</p>"


def _section(entry: Entry, page: Page, folder: Path) -> str:
    """Return everything about one experiment."""
    experiment = entry.experiment
    figures = "".join(
        _figure(panel, f"{experiment.name}-{index}")
        for index, panel in enumerate(entry.plots)
    )
    parts = [
        f"<h2>{escape(experiment.title)}</h2>",
        *(_claim(claim, entry) for claim in experiment.claims),
        "<h3>Criteria</h3>",
        _criteria_table(entry),
        f'<div class="plots">{figures}</div>' if figures else "",
        _links(entry.files, folder),
        f"<h3>What the scale {escape(page.scale)} changed</h3>",
        _changes(entry),
        "<h3>How to run it</h3>",
        f"<pre><code>{escape(entry.command)}</code></pre>",
        f"<p>{escape(_status(entry))}</p>",
        form.details("Configuration", form.fields(entry.config)),
    ]
    inside = "\n".join(part for part in parts if part)
    return f'<section id="{escape(experiment.name)}">\n{inside}\n</section>'


def _claim(claim: Claim, entry: Entry) -> str:
    """Return a claim and the verdict on it, with the reason if it falls short."""
    word = words.verdict_on(claim, entry.criteria)
    short = escape(words.shortfall(claim, entry.criteria, entry.status))
    said = f"<b>{escape(claim.id)}</b> ({escape(claim.source)}): {escape(claim.text)}"
    note = f'<p class="note">{short}</p>' if short else ""
    return f"<p>{said}<br>Verdict: {_badge(word)}</p>{note}"


def _criteria_table(entry: Entry) -> str:
    """Return the criteria with their numbers, and of several claims which."""
    rows = [
        [
            _value(criterion.claim),
            _wide(criterion.text),
            _value(words.value(criterion)),
            words.holds(criterion),
            _wide(criterion.note) if criterion.note else "",
        ]
        for criterion in entry.criteria
    ]
    if not rows:
        return f"<p>Nothing was measured (status: {escape(entry.status)}).</p>"
    headings = ["claim", "criterion", "mean ± sd over seeds", "holds", "note"]
    first = 0 if len(entry.experiment.claims) > 1 else 1
    return form.table(headings[first:], [row[first:] for row in rows])


def _figure(panel: Panel, div_id: str) -> str:
    """Return a figure with its title and its caption."""
    caption = " ".join([escape(panel.caption), *_notes(panel)]).strip()
    return (
        f"<figure><h4>{escape(panel.title)}</h4>{figure_html(panel, div_id)}"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _notes(panel: Panel) -> list[str]:
    """Say what of a figure is not drawn, or not as it is."""
    left_out = {"points": sum(points(one, panel).left_out for one in panel.curves)}
    joined = False
    if isinstance(panel, Map):
        drawn = cells(panel)
        left_out["cells"], joined = drawn.left_out, drawn.joined
    notes = [
        f"Not drawn, as infinite or not positive: {number:,} {what}."
        for what, number in left_out.items()
        if number
    ]
    if joined:
        notes.append("Neighbouring cells are joined; their largest number is drawn.")
    return notes


def _links(files: Sequence[Path], folder: Path) -> str:
    links = ", ".join(
        f'<a href="{escape(_relative(file, folder))}">'
        f"{escape(file.suffix.lstrip('.').upper())}</a>"
        for file in files
    )
    return f'<p class="links">The figures as files: {links}</p>' if links else ""


def _relative(file: Path, folder: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _status(entry: Entry) -> str:
    return words.run(
        entry.status, entry.seconds, entry.hardware, entry.config.get("seeds")
    )


def _changes(entry: Entry) -> str:
    if not entry.changes:
        return "<p>Nothing: this is the full scale.</p>"
    rows = [
        [f"<code>{escape(cell)}</code>" for cell in (name, str(full), str(ours))]
        for name, (full, ours) in entry.changes.items()
    ]
    return form.table(["field", "full scale", "here"], rows)
