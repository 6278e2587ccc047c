"""The Python blocks of the README and the docs run, and links lead somewhere."""

import re
from pathlib import Path

import pytest

import dominant

PAGES = [Path("README.md"), *sorted(Path("docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_readme_has_examples():
    assert len(blocks(Path("README.md"), "python")) >= 3


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_python_blocks_run_in_order(page):
    scope = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), scope)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page} points to {target}"


def test_the_public_surface_is_what_the_readme_lists():
    readme = Path("README.md").read_text()
    functions = {
        name
        for name in vars(dominant)
        if not name.startswith("_") and name[0].islower() and name not in MODULES
    }
    missing = {name for name in functions if f"`{name}`" not in readme}
    assert not missing


MODULES = {path.stem for path in Path("dominant").glob("*.py")}
