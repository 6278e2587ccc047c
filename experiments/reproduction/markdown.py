"""The report of a reproduction in short, as Markdown for the documentation."""

import re
from collections.abc import Iterable, Mapping, Sequence

from experiments.reproduction import outcome, words
from experiments.reproduction.outcome import Entry, Page


def to_markdown(page: Page, figures: Mapping[str, str]) -> str:
    """Return the verdicts, and each experiment's numbers, as Markdown.

    Args:
      page: the report.
      figures: links to the experiments' figures, by the experiments' names; one that
        has no link has no figure.

    Raises:
      ValueError: as `outcome.check`, and for a figure of an unknown experiment.
    """
    outcome.check(page)
    names = [entry.experiment.name for entry in page.entries]
    unknown = sorted(set(figures) - set(names))
    if unknown:
        raise ValueError(
            f"figures of unknown experiments: {', '.join(unknown)}; expected some of: "
            f"{', '.join(names)}"
        )
    claims = outcome.claims(page)
    parts = [
        "<!-- Generated from the runs. Do not edit. -->",
        f"# {_text(page.title)}",
        *(_text(part) for part in page.introduction.split("\n\n") if part.strip()),
        f"Scale: **{_text(page.scale)}**. "
        f"{words.count([word for _, _, word in claims])} Numbers are mean ± standard "
        "deviation over the seeds; one alone is of one seed, or of all together.",
        _table(
            ["id", "claim", "source", "verdict", "time", "hardware"],
            (
                [
                    f"[{_text(claim.id)}](#{entry.experiment.name})",
                    _text(claim.text),
                    _text(claim.source),
                    f"**{word}**",
                    _time(entry),
                    _text(entry.hardware),
                ]
                for entry, claim, word in claims
            ),
        ),
        _table(
            ["", ""],
            ([_text(name), _text(text)] for name, text in page.provenance.items()),
        ),
        *(
            part
            for entry in page.entries
            for part in _section(entry, page.scale, figures)
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(entry: Entry, scale: str, figures: Mapping[str, str]) -> list[str]:
    """Return the parts about one experiment."""
    experiment, criteria = entry.experiment, entry.criteria
    claims = [
        f"- **{_text(claim.id)}** ({_text(claim.source)}): {_text(claim.text)}:"
        f" **{words.verdict_on(claim, criteria)}**. "
        f"{_text(words.shortfall(claim, criteria, entry.status))}".rstrip()
        for claim in experiment.claims
    ]
    rows = (
        [
            _text(criterion.claim),
            _text(criterion.text),
            _text(words.value(criterion)),
            words.holds(criterion),
            _text(criterion.note),
        ]
        for criterion in criteria
    )
    changes = (
        [_code(cell) for cell in (name, str(full), str(ours))]
        for name, (full, ours) in entry.changes.items()
    )
    link = figures.get(experiment.name)
    return [
        f'<a id="{experiment.name}"></a>',
        f"## {_text(experiment.title)}",
        "\n".join(claims),
        _table(["claim", "criterion", "here", "holds", "note"], rows),
        f"![{_text(experiment.title)}]({link})" if link else "",
        "\n".join(
            dict.fromkeys(
                f"- {_text(panel.title)}: {_text(panel.caption)}"
                for panel in entry.plots
                if link and panel.caption
            )
        ),
        _table([f"changed at the scale {_text(scale)}", "full scale", "here"], changes),
        _text(
            words.run(
                entry.status, entry.seconds, entry.hardware, entry.config.get("seeds")
            )
        ),
        f"```\n{entry.command.strip()}\n```",
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already; "" without a row."""
    lines = [headings, ["---"] * len(headings), *rows]
    if len(lines) == 2:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _time(entry: Entry) -> str:
    return "–" if entry.seconds is None else words.duration(entry.seconds)


def _text(text: str) -> str:
    """Return text on one line, of which nothing is read as Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|$~&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Return text as code, in a table's cell."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", r"\|")
    return f"`{plain}`"
