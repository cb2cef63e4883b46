"""Shows files beside the documentation in it: pictures, job files, the figures that benchmarks wrote.

A page links to `../scripts/results/acac.json`, which is right where the repository is read; on the site the
file lies under the same path.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

OUTSIDE = re.compile(r"(?<=\]\()\.\./([^)#\s]+)")
"""A link or picture that leaves the folder of the pages, which has no folders of pages in it."""


def on_files(files: Files, config: Any) -> Files:
    """Adds every file that a page links to."""
    linked = {
        path
        for page in files.documentation_pages()
        for path in OUTSIDE.findall(page.content_string)
    }
    for path in sorted(linked):
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Points to where those files lie on the site."""
    return OUTSIDE.sub(r"\1", markdown)
