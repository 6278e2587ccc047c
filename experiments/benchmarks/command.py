"""What the commands that measure share: their flags, and the files that they write."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import json_values


def parser(module: str, text: str | None) -> argparse.ArgumentParser:
    """Return a parser of `--out` and `--quick`.

    Args:
      module: the command's, e.g. "experiments.benchmarks.products".
      text: what `--help` says, the module's docstring.
    """
    made = argparse.ArgumentParser(
        prog=module,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", required=True, type=Path, help="folder of the results")
    made.add_argument("--quick", action="store_true", help="tiny problems only")
    return made


def write(folder: Path, name: str, results: Mapping[str, Any], table: str) -> None:
    """Write `NAME.json` and `NAME.md` into a folder that exists."""
    json_values.write_file(folder / f"{name}.json", results)
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
