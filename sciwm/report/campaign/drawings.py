"""Drawings that are part of the page's text: structural formulas and intervals, as inline SVG."""

import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from rdkit import rdBase
from rdkit.Chem.Draw import rdMolDraw2D

from sciwm.core.molecules import parsed
from sciwm.discovery.problem.hypothesis import Measurement, Prediction
from sciwm.report.plots import GREEN, ORANGE

WIDTH, HEIGHT = 280, 190

LARGEST_FORMULA = 120
"""Heavy atoms in a formula, at most: more could not be read."""


def formula(smiles: str) -> str:
    """The structural formula, or a sentence where it cannot be drawn."""
    try:
        molecule = parsed(smiles)
    except ValueError:
        return '<p class="note">no formula: this SMILES names no single sound molecule</p>'
    if molecule.GetNumHeavyAtoms() > LARGEST_FORMULA:
        return f'<p class="note">no formula: {molecule.GetNumHeavyAtoms()} heavy atoms</p>'
    drawing = rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT)
    settings: Any = drawing.drawOptions()  # whose stubs give its switches the wrong type
    settings.clearBackground = False
    settings.bondLineWidth = 1.6
    settings.minFontSize = 11
    settings.padding = 0.06
    with rdBase.BlockLogs():
        drawing.DrawMolecule(rdMolDraw2D.PrepareMolForDrawing(molecule))
    drawing.FinishDrawing()
    svg = drawing.GetDrawingText()
    # Within HTML a drawing needs no header, no namespaces, and a size only from its surroundings.
    body = re.sub(r"^.*?<svg[^>]*>\s*(?:<!--.*?-->)?", "", svg, count=1, flags=re.DOTALL)
    title = escape(smiles, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{body.strip()}'


def span(
    pairs: Sequence[tuple[Prediction | None, Measurement | None]],
) -> tuple[float, float]:
    """The range that all these intervals and values are drawn on."""
    values = [x for p, _ in pairs if p is not None for x in (p.lower, p.mean, p.upper)]
    values += [m.value for _, m in pairs if m is not None]
    finite = [x for x in values if math.isfinite(x)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def interval(
    prediction: Prediction | None, measurement: Measurement | None, low: float, high: float
) -> str:
    """The predicted interval as a bar, its mean as a tick, and the measured value as a dot."""

    def place(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / (high - low)

    parts = ['<line x1="0" x2="100" y1="6" y2="6" stroke="#d8dee4" stroke-width="1"/>']
    inside = True
    if prediction is not None and not any(
        math.isnan(x) for x in (prediction.lower, prediction.upper)
    ):
        start, end = place(prediction.lower), place(prediction.upper)
        parts.append(
            f'<rect x="{start:.2f}" width="{end - start:.2f}" y="3.5" height="5" fill="#a9c9e4"/>'
        )
        inside = measurement is None or prediction.lower <= measurement.value <= prediction.upper
    if prediction is not None and math.isfinite(prediction.mean):
        mean = place(prediction.mean)
        parts.append(f'<rect x="{mean - 0.4:.2f}" width="0.8" y="2" height="8" fill="#0072B2"/>')
    # A dot within the stretched drawing would become an ellipse, so it is a line with a round cap.
    if measurement is not None and math.isfinite(measurement.value):
        x = place(measurement.value)
        parts.append(
            f'<line x1="{x:.2f}" x2="{x:.2f}" y1="6" y2="6" stroke="{GREEN if inside else ORANGE}" '
            'stroke-width="9" stroke-linecap="round" vector-effect="non-scaling-stroke"/>'
        )
    return (
        '<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
