"""The page of a plan: what was promised, what came of it, imagined beside real."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sciwm import __version__
from sciwm.core.units import UnitSystem
from sciwm.planning.ledger import best_so_far
from sciwm.planning.plan import Plan
from sciwm.planning.problem import Problem, Returns, measured_in
from sciwm.planning.search import LIKELY, Found
from sciwm.report import page, plots
from sciwm.report.comparison import MotionComparison, read_motion
from sciwm.report.motion_sections import imagined_alone, imagined_beside_true
from sciwm.report.numerals import quantity
from sciwm.report.page import Page


def write_plan_page(plan: Plan, target: Path) -> Path:
    """Writes the page of a plan that was searched for and, where there is a reference, carried out."""
    told = plan.figures()
    sheet = Page(f"The plan {plan.folder.name}", f"{told['objective']} - sciwm {__version__}")
    sheet.add(page.tiles(_glance(plan)))
    if told.get("loophole"):
        sheet.add(page.paragraph(f"Not to be believed: {told['loophole']}."))
    sheet.section("What is done", *_doings(plan))
    sheet.section("What was expected, and what came", *_courses(plan))
    imagined = read_motion(str(plan.folder / "imagined.h5md"))
    if plan.realised is not None:
        true = read_motion(str(plan.folder / "true.h5md"))
        try:
            imagined_beside_true(sheet, MotionComparison.of(true, imagined))
        except ValueError as error:
            sheet.section(
                "Imagined and true motion", page.note(f"They cannot be compared: {error}.")
            )
    else:
        imagined_alone(sheet, imagined)
    sheet.section("How it was found", *_search(plan))
    sheet.write(target)
    return target


def _glance(plan: Plan) -> list[tuple[str, str, str]]:
    told = plan.figures()
    unit = told["unit"]
    low, high = told["interval"]
    entries = [
        (
            quantity(told["predicted"], unit),
            "predicted",
            f"nine of ten runs from {low:.4g} to {high:.4g}",
        )
    ]
    if (found := plan.trial) is not None:
        count, (goal,) = len(told["realised"]), plan.problem.objective.goals
        mean = goal.direction * float(found.scores.mean()) if len(found.scores) else float("nan")
        beside = f"{found.inside} of {count} runs inside the prediction"
        entries.append((quantity(mean, unit), "realised in the true simulator", beside))
    if told["random_plans"] is not None:
        entries.append(
            (quantity(told["random_plans"], unit), "plans drawn at random", "on the mean")
        )
    entries.append(
        (f"{told['plans_tried']:,}", "plans tried in imagination", "none of them for real")
    )
    return entries


def _doings(plan: Plan) -> list[str]:
    rows = plan.figures()["plan"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    length = plan.problem.stage
    unit = plan.units.time
    table = [
        [
            f"{k * length:g} to {(k + 1) * length:g} {unit}".strip(),
            *(row.get(name, "") for name in names),
        ]
        for k, row in enumerate(rows)
    ]
    return [
        page.table(["when", *names], table),
        page.note("The same as a file that `sciwm simulate` takes with --actions:"),
        page.commands((plan.folder / "plan.yaml").read_text().splitlines()),
    ]


def _courses(plan: Plan) -> list[str]:
    worlds = len(plan.found.returns)
    told = "The band holds nine of ten imagined runs" + (f" of {worlds} worlds" * (worlds > 1))
    told += "; lines are runs of the true simulator." if plan.realised is not None else "."
    return [page.figure(courses(plan.problem, plan.found, plan.realised, plan.units), told)]


def courses(problem: Problem, found: Found, realised: Returns | None, units: UnitSystem) -> Figure:
    """Each measure over time: a band of what was imagined, lines of what was true."""
    told = measured_in(problem.measures, units)
    bands, lines = {}, {}
    for name, measure in problem.measures.items():
        imagined = np.concatenate([one.paths[name][:, 0] for one in found.returns], axis=1)
        label = plots.label(name, told[name])
        bands[label] = np.nanquantile(measure.continuous(imagined), LIKELY, axis=1)
        true = None if realised is None else measure.continuous(realised.paths[name][:, 0])
        lines[label] = [] if true is None else list(true.T)
    interval = found.returns[0].interval
    return plots.bands(interval, bands, lines, plots.label("time", units.time))


def _search(plan: Plan) -> list[str]:
    rounds = plan.found.rounds
    best = {
        "best so far": best_so_far(rounds),
        "median of the round": [float(np.median(one.merits)) for one in rounds],
    }
    count = np.cumsum([len(one.plans) for one in rounds])
    drawing = plots.time_series(count, best, "plans tried", "merit (larger is better)")
    return [
        page.figures(
            [
                page.figure(
                    drawing,
                    "What the planner thought of its plans while it searched: mean returns of few runs, "
                    "less what worlds disagree by. The best of many is flattered by chance; the "
                    "prediction above is from fresh runs.",
                )
            ]
        )
    ]
