"""Everything that was measured, in a table that is searched and sorted where it lies, offline.

Rows are part of the page, so that they print and can be copied without any script; the script only
hides and moves them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sciwm.discovery.analysis import scorecard
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.report.campaign.amounts import Amounts
from sciwm.report.campaign.cards import mark
from sciwm.report.campaign.record import CampaignRecord
from sciwm.report.numerals import plain

STYLE = """
.hypotheses .search { display: flex; gap: .8rem; align-items: baseline; margin: .8rem 0 .4rem; }
.hypotheses input { font: inherit; padding: .25rem .6rem; width: 22rem; max-width: 60vw;
  border: 1px solid var(--line); border-radius: 6px; }
.hypotheses output { color: var(--soft); font-size: .88rem; }
.hypotheses .scroll { max-height: 38rem; overflow: auto; margin: 0;
  border: 1px solid var(--line); border-radius: 8px; }
.hypotheses table { min-width: 100%; font-size: .85rem; border-collapse: separate;
  border-spacing: 0; }
.hypotheses th, .hypotheses td { padding: .28rem .65rem; }
.hypotheses thead th { position: sticky; top: 0; background: #f6f8fa; z-index: 1;
  border-bottom: 1px solid var(--ink); vertical-align: bottom; }
.hypotheses th button { font: inherit; font-weight: 600; border: 0; padding: 0; background: none;
  color: inherit; cursor: pointer; text-align: inherit; }
.hypotheses th button::after { content: "\\00a0↕"; color: #9aa3ad; font-weight: 400; }
.hypotheses th[aria-sort="ascending"] button::after { content: "\\00a0↑"; color: var(--blue); }
.hypotheses th[aria-sort="descending"] button::after { content: "\\00a0↓"; color: var(--blue); }
.hypotheses td.mark { white-space: nowrap; }
.hypotheses thead th { white-space: normal; min-width: 4.5rem; }
.hypotheses td.smiles { min-width: 17rem; max-width: 22rem; }
.hypotheses td.words { min-width: 12rem; max-width: 26rem; }
@media print { .hypotheses .search { display: none; }
  .hypotheses .scroll { max-height: none; overflow: visible; } }
"""

SCRIPT = """
"use strict";
for (const box of document.querySelectorAll(".hypotheses")) {
  const body = box.querySelector("tbody"), input = box.querySelector("input");
  const count = box.querySelector("output"), heads = [...box.querySelectorAll("thead th")];
  const rows = [...body.rows].map(row => ({
    row,
    text: [...row.cells].map(cell => cell.textContent).join(" ").toLowerCase(),
    keys: [...row.cells].map(cell => cell.dataset.key ?? cell.textContent),
  }));
  function search() {
    const words = input.value.toLowerCase().split(/\\s+/).filter(word => word);
    let shown = 0;
    for (const { row, text } of rows) {
      row.hidden = !words.every(word => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown + " of " + rows.length + " shown";
  }
  function sort(column) {
    const head = heads[column], numeric = head.dataset.kind === "number";
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const known = key => key !== "" && !(numeric && Number.isNaN(+key));
    rows.sort((a, b) => {
      const p = a.keys[column], q = b.keys[column];
      // What is unknown comes last whichever way the rest is sorted.
      if (!known(p) || !known(q)) return known(q) - known(p);
      const order = numeric ? p - q : p < q ? -1 : p > q ? 1 : 0;
      return rising ? order : -order;
    });
    body.append(...rows.map(entry => entry.row));
  }
  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => sort(column)));
  input.addEventListener("input", search);
  search();
}
"""


@dataclass(frozen=True)
class Column:
    """A head and how its cells are laid out: a class of the style, and numbers or words."""

    title: str
    style: str = ""
    numeric: bool = True


def hypothesis_table(
    record: CampaignRecord, measured: Sequence[Hypothesis], amounts: dict[str, Amounts]
) -> str:
    """The HTML of the table in the order given; the page also needs `STYLE` and `SCRIPT`."""
    columns = [
        Column("place"),
        Column("molecule", "left smiles", numeric=False),
        Column("verdict", "left mark", numeric=False),
    ]
    for name, amount in amounts.items():
        title = name.replace("_", " ")
        columns += [Column(amount.with_unit(f"{title}, measured,").rstrip(","))]
        columns += [Column("predicted, 90 % interval"), Column("z")]
    columns += [Column("round"), Column("proposer", "left", numeric=False)]
    columns += [Column("decision", "left", numeric=False), Column("reference s")]
    columns += [Column(f"score: {goal}") for goal in record.goals]
    columns += [Column("why", "left words", numeric=False)]
    head = "".join(
        f'<th class="{column.style}"{" data-kind=number" if column.numeric else ""}>'
        f'<button type="button">{escape(column.title)}</button></th>'
        for column in columns
    )
    body = []
    for place, hypothesis in enumerate(measured, start=1):
        cells = _cells(record, place, hypothesis, amounts)
        body.append(
            "<tr>"
            + "".join(
                f'<td class="{column.style}"{_key(key)}>{content}</td>'
                for column, (key, content) in zip(columns, cells, strict=True)
            )
            + "</tr>"
        )
    return (
        '<div class="hypotheses"><div class="search controls"><input type="search" '
        'placeholder="search: molecule, proposer, refuted …" aria-label="search the table">'
        f'<output>{len(measured)} rows</output></div><div class="scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div></div>"
    )


def _cells(
    record: CampaignRecord, place: int, hypothesis: Hypothesis, amounts: dict[str, Amounts]
) -> list[tuple[float | None, str]]:
    """Of one row: what a numeric column sorts by, and the HTML to show."""
    candidate = hypothesis.candidate
    cells: list[tuple[float | None, str]] = [
        (place, str(place)),
        (None, f"<code>{escape(candidate.smiles)}</code>"),
        (None, mark(hypothesis)),
    ]
    for name, amount in amounts.items():
        prediction = hypothesis.predictions.get(name)
        measurement = hypothesis.measurements.get(name)
        z = scorecard.z_scores([hypothesis], name)
        cells += [
            (measurement.value if measurement else math.nan, escape(amount.measured(measurement))),
            (prediction.mean if prediction else math.nan, escape(amount.predicted(prediction))),
            (z[0], f"{z[0]:+.1f}") if len(z) else (math.nan, "-"),
        ]
    cells += [
        (hypothesis.round, str(hypothesis.round)),
        (None, escape(candidate.proposer)),
        (None, hypothesis.decision),
        (hypothesis.cost, plain(hypothesis.cost)),
    ]
    for goal in range(len(record.goals)):
        score = hypothesis.measured_score[goal] if hypothesis.measured_score else math.nan
        cells.append((score, plain(score)))
    flags = sorted({p.flag for p in hypothesis.predictions.values() if p.flag})
    cells.append((None, escape("; ".join(text for text in (hypothesis.why, *flags) if text))))
    return cells


def _key(value: float | None) -> str:
    """The attribute to sort by, empty where a number is unknown."""
    if value is None:
        return ""
    return f' data-key="{value:.9g}"' if math.isfinite(value) else ' data-key=""'
