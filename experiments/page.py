"""The form of a report: one HTML page without any other file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from experiments.figures import COLORS

_STYLE = """
body {
  margin: 0 auto; max-width: 74rem; padding: 1rem 1.25rem 4rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
h3 { font-size: 1rem; }
p, ul, figcaption { max-width: 46rem; }
.figures {
  display: grid; gap: 1rem 2rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
}
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .92rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td {
  padding: .35rem .7rem; border-bottom: 1px solid var(--grid);
  text-align: left; vertical-align: top; font-variant-numeric: tabular-nums;
}
th { font-weight: 600; vertical-align: bottom; }
.key { display: inline-block; margin-right: 1.4rem; font-size: .92rem; }
.key::before {
  content: ""; display: inline-block; width: 1.6rem; margin-right: .4rem;
  border-top: .18rem solid; vertical-align: middle;
}
.key .ink { color: var(--ink); }
sub { line-height: 0; }
code { font-size: .9em; overflow-wrap: anywhere; }
details { margin-top: 1.6rem; }
summary { cursor: pointer; font-size: 1.2rem; font-weight: 600; }
.note { border-left: .3rem solid var(--dom); padding: .1rem 0 .1rem .8rem; }
.warmup { color: var(--warmup); }
.plain { color: var(--plain); }
.dom { color: var(--dom); }
.bulk { color: var(--bulk); }
.interpolated { color: var(--interpolated); }
@media (max-width: 40rem) { th, td { padding: .35rem .4rem; font-size: .85rem; } }
.reproduced { color: var(--bulk); } .not-reproduced { color: var(--dom); }
"""

_PAPER = ("#ffffff", "#14171b")


def render(title: str, body: Iterable[str], head: str = "") -> str:
    """Return the whole page from its parts, which are HTML already.

    `head` is what the page's head needs besides, such as more style.
    """
    content = "\n".join(part for part in body if part)
    heading = escape(title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{heading}</title>
<style>
:root {{ {_variables(0)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(1)} }} }}
{_STYLE.strip()}
</style>{head}
</head>
<body>
<h1>{heading}</h1>
{content}
</body>
</html>
"""


def _variables(scheme: int) -> str:
    """Return the colours as CSS variables: of the light scheme (0) or the dark (1)."""
    colors = {name: pair[scheme] for name, pair in COLORS.items()}
    colors["paper"] = _PAPER[scheme]
    return " ".join(f"--{name}: {color};" for name, color in colors.items())


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already; it scrolls on a narrow screen."""
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def fields(values: Mapping[str, Any]) -> str:
    """Return a table of names and JSON values."""
    return table(
        ["field", "value"],
        [
            [
                f"<code>{escape(name)}</code>",
                f"<code>{escape(json.dumps(value))}</code>",
            ]
            for name, value in values.items()
        ],
    )


def side_by_side(figures: Iterable[str]) -> str:
    """Return figures in as many columns as the screen has room for."""
    return f'<div class="figures">{"".join(figures)}</div>'


def details(heading: str, content: str) -> str:
    """Return a part of the page that is folded until somebody asks for it."""
    return f"<details><summary>{escape(heading)}</summary>{content}</details>"
