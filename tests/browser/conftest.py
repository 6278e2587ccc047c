"""Fixtures for the tests in a browser."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, NAMES)), None)
    assert path, f"needs one of these on the PATH: {', '.join(NAMES)}"
    # Chromium's sandbox refuses to be root's.
    args = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=args)
        yield browser
        browser.close()


@pytest.fixture
def open_address(browser):
    """Open a page on a screen; at the end, nothing was asked for and all was well."""
    contexts, addresses, requests, errors = [], set(), [], []

    def open_on(address, screen, scheme="light"):
        context = browser.new_context(viewport=screen, color_scheme=scheme)
        contexts.append(context)
        addresses.add(address)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda said: errors.append(said.text) if said.type == "error" else None,
        )
        page.goto(address)
        return page

    yield open_on
    for context in contexts:
        context.close()
    assert errors == []
    assert set(requests) == addresses
