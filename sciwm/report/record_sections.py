"""Sections of a report on what training, evaluation and checks found."""

from typing import Any

from sciwm.core.units import UnitSystem
from sciwm.report import page, plots
from sciwm.report.numerals import plain, quantity
from sciwm.report.page import Page
from sciwm.report.record import RunRecord

PICTURES: dict[str, str] = {
    "parity_energy": "Every dot is one frame. On the line, the model's energy is the reference's; "
    "the spread about the line is the error.",
    "parity_force": "Every dot is one component of one force. Large forces are rare and matter most.",
    "parity_stress": "Every dot is one component of the stress of one frame.",
    "errors_force": "How often each error occurs, on a logarithmic scale: a straight fall is "
    "harmless, a lone column far from zero is a frame to look at.",
    "species_force": "Force errors of each kind of particle, beside a model that knows nothing.",
    "motion": "Errors of predicted positions, beside particles that fly straight on.",
}
"""Of the pictures that evaluation draws, those worth the space, and how to read each."""


def errors(sheet: Page, record: RunRecord) -> None:
    """Adds the section on errors beside those of null models."""
    evaluation = record.evaluation
    heading = "Errors"
    if not evaluation:
        sheet.section(
            heading,
            page.paragraph("Not measured yet. These commands do it and renew this page:"),
            page.commands(
                [
                    f"sciwm evaluate {record.folder} --data FILE.h5md",
                    f"sciwm report {record.folder}",
                ]
            ),
        )
        return
    metrics = evaluation["metrics"]
    parts = []
    if any(name.endswith(" rmse") for name in metrics):
        parts += _label_errors(metrics)
    else:
        parts += _motion_errors(metrics)
    parts.append(page.note(_conditions(record)))
    drawn_by_evaluation = {path.stem: path for path in record.pictures}
    shown = [
        page.picture(drawn_by_evaluation[stem], caption)
        for stem, caption in PICTURES.items()
        if stem in drawn_by_evaluation
    ]
    if shown:
        parts.append(page.figures(shown))
    sheet.section(heading, *parts)


def _conditions(record: RunRecord) -> str:
    """What the errors were measured on, and against."""
    evaluation = record.evaluation
    files = sorted({frame["file"] for frame in evaluation.get("worst frames", [])})
    on = f"Over {evaluation.get('frames', 0):,} frames"
    on += f" of {', '.join(files)}." if files else "."
    if set(files) & set(record.training_files):
        on += " The model was trained on some of them, so these errors say nothing about new ones."
    nulls = "; ".join(f"{name}: {what}" for name, what in evaluation.get("null models", {}).items())
    return f"{on} The null model knows nothing and says what an error means ({nulls})."


def _label_errors(metrics: dict[str, Any]) -> list[str]:
    rows = []
    for name in (n.removesuffix(" rmse") for n in metrics if n.endswith(" rmse")):
        rmse, null = metrics[f"{name} rmse"]["value"], metrics[f"{name} rmse"]["null"]
        rows.append(
            [
                name,
                *(plain(metrics[f"{name} {kind}"]["value"]) for kind in ("rmse", "mae", "p95")),
                plain(metrics[f"{name} maximum"]["value"]),
                plain(null),
                plain(null / rmse if rmse else None),
                metrics[f"{name} rmse"]["unit"],
            ]
        )
    header = ["", "RMSE", "MAE", "95 %", "largest", "null RMSE", "null / model", "unit"]
    return [
        page.paragraph(
            "RMSE is the root mean square error and dwells on the worst cases, MAE is the mean "
            "absolute error; 95 % of all errors are below the third number."
        ),
        page.table(header, rows),
    ]


def _motion_errors(metrics: dict[str, Any]) -> list[str]:
    rows = [
        [name, plain(error["value"]), plain(error["null"]), error["unit"]]
        for name, error in metrics.items()
    ]
    return [page.table(["", "model", "null model", "unit"], rows)]


def checks(sheet: Page, record: RunRecord) -> None:
    """Adds the section on the verdicts of the checks."""
    checks = record.checks
    heading = "What the model may be used for"
    if not checks:
        sheet.section(
            heading,
            page.paragraph("Not checked yet. This command does it:"),
            page.commands([f"sciwm check {record.folder}"]),
        )
        return
    sheet.section(heading, *verdicts(checks, record.model.units))


def verdicts(checks: dict[str, Any], units: UnitSystem) -> list[str]:
    """The licence of a model, as a table."""
    rows = [
        [
            check["name"],
            check["status"],
            plain(check["value"])
            # Older files know no errors.
            + (f" ± {plain(check['error'])}" if check.get("error") is not None else ""),
            plain(check["limit"]),
            check["unit"],
            check["explanation"],
        ]
        for check in checks["checks"]
    ]
    temperature = quantity(checks["temperature"], units.temperature)
    return [
        page.paragraph(
            f"Verdict: {checks['verdict']}. Each row is one property that physics demands or a "
            "simulation needs, measured on a few states; larger values are worse, and a pass ends "
            f"at the limit. Rows without a limit are only reported. Dynamics at {temperature}."
        ),
        page.table(
            ["", "verdict", "value", "limit", "unit", "what was done"], rows, left=(0, 1, 5)
        ),
    ]


def training(sheet: Page, record: RunRecord) -> None:
    """Adds the section on what was trained, and on what."""
    training, provenance = record.training, record.provenance
    model = record.model
    facts = [
        ["model", f"{type(model).__name__}, {record.parameters:,} parameters"],
        ["cutoff", quantity(model.cutoff, model.units.length)],
        ["data", ", ".join(record.training_files)],
        ["frames trained on", f"{provenance.get('training_items', 0):,}"],
        ["steps", f"{training.get('steps', 0):,}"],
        ["processor time", quantity(training.get("cpu_seconds", 0.0), "s")],
        ["seed", str(provenance.get("seed", "-"))],
        ["versions", ", ".join(f"{k} {v}" for k, v in provenance.get("versions", {}).items())],
    ]
    for name, error, null, unit in record.validation_errors():
        beside = "" if null is None else f" (null model {quantity(null, unit)})"
        facts.append([f"{name} error on held-back frames", quantity(error, unit) + beside])
    parts = [
        page.paragraph(
            "Held-back frames come from the training data and steer the choice of the best weights, "
            "so their errors are a little too good; those above are not."
        ),
        page.table([], facts, left=(0, 1)),
    ]
    if record.log is not None:
        curve = page.figure(
            plots.learning_curve(record.log),
            "Loss and validation errors during training. A curve that still falls at the end would "
            "gain from more time.",
        )
        parts.append(page.figures([curve]))
    parts.append(page.paragraph("To do it again:"))
    parts.append(page.commands([f"sciwm train {record.folder / 'config.yaml'} --name again"]))
    sheet.section("How it was trained", *parts)
