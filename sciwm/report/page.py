"""One HTML page that holds everything it shows: it opens offline, prints, and can be mailed.

Builders below return pieces of HTML; text given to them is escaped, pictures become part of the page.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #59636e; --line: #d8dee4; --blue: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.5rem 4rem; background: #fff;
  color: var(--ink); font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .4rem; padding-top: 1.2rem;
  border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 46rem; }
.lead, .note, figcaption { color: var(--soft); }
.note, figcaption { font-size: .88rem; }
code { font: .88em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { background: #f6f8fa; border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem;
  overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.25rem; white-space: nowrap; font-weight: 600; color: var(--blue); }
.tile span { display: block; font-size: .88rem; }
.tile .beside { color: var(--soft); }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
.left { text-align: left; white-space: normal; }
.left:first-child { white-space: nowrap; }
thead th { border-bottom: 2px solid var(--ink); font-weight: 600; }
.pass, .warn, .fail { font-weight: 600; }
.pass { color: #00664a; } .warn { color: #8a5a00; } .fail { color: #b3261e; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr));
  gap: 1rem 1.5rem; align-items: start; }
figure { margin: .8rem 0; }
figure img { width: 100%; height: auto; display: block; }
.figures figure { max-width: 36rem; }
.figures figure img { max-height: 26rem; object-fit: contain; object-position: left top; }
.viewer { margin: 1rem 0; }
.viewer .stage { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr));
  gap: .8rem; }
.viewer .view { border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.viewer .view b { display: block; padding: .35rem .8rem; font-size: .88rem;
  border-bottom: 1px solid var(--line); background: #f6f8fa; }
.viewer canvas { display: block; width: 100%; aspect-ratio: 4 / 3; cursor: grab;
  touch-action: pan-y; }
.viewer .controls { display: flex; gap: .8rem; align-items: center; margin-top: .6rem; }
.viewer input { flex: 1; }
.viewer button { font: inherit; padding: .2rem .9rem; min-width: 5.5rem; cursor: pointer; }
.viewer output { min-width: 7rem; text-align: right; font-variant-numeric: tabular-nums; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  .controls, .screen { display: none !important; }
  figure, table, .tile, .viewer { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""

VERDICTS = ("pass", "warn", "fail")


@dataclass
class Page:
    """Sections under a title.

    Attributes:
        title: Of the page.
        lead: One sentence below it.
        body: Finished HTML, in order.
        scripts: JavaScript that the body needs.
    """

    title: str
    lead: str
    body: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)

    def add(self, *parts: str) -> None:
        self.body += parts

    def section(self, heading: str, *parts: str) -> None:
        """A heading with pieces of HTML below it."""
        self.add("<section>", f"<h2>{escape(heading)}</h2>", *parts, "</section>")

    def html(self) -> str:
        scripts = [f"<script>{script}</script>" for script in dict.fromkeys(self.scripts)]
        lines = [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # An empty icon, or browsers would ask a server for one.
            '<link rel="icon" href="data:,">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{escape(self.title)}</h1>",
            f'<p class="lead">{escape(self.lead)}</p></header>',
            *self.body,
            *scripts,
            "</body>",
            "</html>",
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        path.write_text(self.html(), encoding="utf-8")


def paragraph(text: str) -> str:
    """Running text."""
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """Small print."""
    return f'<p class="note">{escape(text)}</p>'


def commands(lines: Sequence[str]) -> str:
    """Lines to type."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Figures at a glance: value, what it is, and what to compare it with."""
    boxes = [
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span>'
        f'<span class="beside">{escape(beside)}</span></div>'
        for value, name, beside in entries
    ]
    return f'<div class="tiles">{"".join(boxes)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Columns flush right but for `left`; verdicts are coloured, empty cells get a dash."""

    def line(tag: str, cells: Sequence[str]) -> str:
        found = []
        for k, cell in enumerate(cells):
            kinds = ["left"] * (k in left) + [cell] * (cell in VERDICTS)
            found.append(f'<{tag} class="{" ".join(kinds)}">{escape(cell)}</{tag}>')
        return f"<tr>{''.join(found)}</tr>"

    head = f"<thead>{line('th', header)}</thead>" if header else ""
    body = "".join(line("td", [cell or "-" for cell in row]) for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def figure(drawing: Figure, caption: str) -> str:
    """A figure as vector graphics, with what it shows and how to read it."""
    stream = BytesIO()
    drawing.savefig(stream, format="svg", dpi=150, metadata={"Date": None})
    return _framed("image/svg+xml", stream.getvalue(), caption)


def picture(png: Path, caption: str) -> str:
    """A picture file, likewise."""
    return _framed("image/png", png.read_bytes(), caption)


def figures(parts: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="figures">{"".join(parts)}</div>'


def _framed(kind: str, content: bytes, caption: str) -> str:
    data = base64.b64encode(content).decode("ascii")
    text = escape(caption)
    return (
        f'<figure><img src="data:{kind};base64,{data}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
