"""Text of figures, so that a renderer reads it as nothing but text."""

from html import escape


def for_plotly(text: str) -> str:
    """Return text that plotly reads neither as HTML nor as a formula."""
    return escape(text, quote=False).replace("$", "&#36;")


def for_matplotlib(text: str) -> str:
    """Return text that matplotlib doesn't read as a formula."""
    return text.replace("$", r"\$")
