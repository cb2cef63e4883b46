"""Cells of tables that people open in spreadsheets, which run what looks like a formula.

A cell that begins with = + - @, a tab or a line end gets an apostrophe before it, which spreadsheets
take as "this is text" (OWASP, CSV Injection). Numbers stay as they are.
"""

import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

# With the apostrophes that a text may itself begin with: so that what was escaped can be told apart.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

ESCAPED = "^'('*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"
"""Pattern of what `escape` writes; its first group is what the text began with."""


def escape(text: str) -> str:
    """The text as no spreadsheet runs it."""
    runs = _FORMULA.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if runs else text


def unescape(text: str) -> str:
    """What `escape` was given."""
    return re.sub(ESCAPED, r"\1", text)
