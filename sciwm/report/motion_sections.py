"""Sections of a report on imagined motion, alone or beside the true one."""

from sciwm.report import comparison_figures as drawn
from sciwm.report import page, viewer
from sciwm.report.comparison import MotionComparison
from sciwm.report.numerals import quantity
from sciwm.report.page import Page
from sciwm.simulation.observables.motion import Motion

CHAOS = (
    "Why paths part: every error of a force pushes the imagined atoms a little aside, and the motion of "
    "many particles is chaotic, so such differences feed on themselves: once there, they grow "
    "exponentially, at a rate called the largest Lyapunov exponent. Better forces put off the parting, "
    "but even the true law, started from positions that are a trifle different, leaves its own path in "
    "the end. Beyond the parting a model is judged by its statistics, below, and not by its path."
)


def imagined_beside_true(sheet: Page, comparison: MotionComparison) -> None:
    """Adds the section with both motions: films, and where their paths part."""
    parts = []
    if comparison.same_start:
        parts.append(
            page.paragraph(
                "Both films start from the same positions and velocities. The true one follows the "
                "reference's forces, the imagined one the model's, and nothing pulls it back."
            )
        )
    else:
        parts.append(
            page.paragraph(
                "The two films start from different states, so only their statistics can be "
                "compared, not their paths."
            )
        )
    parts += _films_and_paths(sheet, comparison)
    if comparison.same_start and comparison.parted:
        parts.append(page.note(CHAOS))
    sheet.section("Imagined and true motion", *parts)


def strides_beside_true(
    sheet: Page, comparison: MotionComparison, stride: tuple[str, float] | None
) -> None:
    """Adds the section on a motion by long strides: films, paths, and the statistics of both.

    Args:
        stride: What moved the system and how far at once, where that is known.
    """
    said = "Here the system was moved by long strides."
    if stride is not None:
        how, long = stride
        said += f" They are of {quantity(long, comparison.true.units.time)}, by {how}."
    parts = [page.paragraph(said), *_films_and_paths(sheet, comparison)]
    sheet.section("Long strides and true motion", *parts, *_statistics(comparison))


def _films_and_paths(sheet: Page, comparison: MotionComparison) -> list[str]:
    parts = _animation(sheet, {"true": comparison.true, "imagined": comparison.imagined})
    if comparison.same_start:
        if comparison.coordinates:
            parts.append(
                page.figure(
                    drawn.paths(comparison),
                    "Black is true, orange is imagined. While they lie on each other the model "
                    "predicts the motion itself; bonds are drawn for the time around the parting, "
                    "the dihedral angle for the whole run. On the right, how often each value "
                    "occurs: this must agree even after the paths have parted.",
                )
            )
        parts.append(page.figures([page.figure(drawn.parting(comparison), _parting(comparison))]))
    return parts


def _parting(comparison: MotionComparison) -> str:
    units = comparison.true.units
    if not comparison.parted:
        return (
            "How far imagined particles are from true ones, root mean square. The paths agree to "
            "the end of this run; the blue line is a model in which nothing moves."
        )
    return (
        f"How far imagined atoms are from true ones, root mean square. Until "
        f"{quantity(comparison.together, units.time)} (dotted) they are less than half as far off "
        "as a model in which nothing moves typically is; then the two have nothing more to do "
        "with each other."
    )


def statistics(sheet: Page, comparison: MotionComparison) -> None:
    """Adds the section with what does not depend on a single path: spectra, distributions."""
    parts = _statistics(comparison)
    if parts:
        sheet.section("Statistics of the motion", *parts)


def _statistics(comparison: MotionComparison) -> list[str]:
    shown = []
    if comparison.spectra:
        x = comparison.spectra["true"].x
        assert x is not None
        unit = comparison.spectra["true"].x_unit
        shown.append(
            page.figure(
                drawn.spectrum(comparison),
                "At which frequencies the system vibrates. Peaks must lie at the same place; their "
                "heights depend on how the energy happens to be shared out in a short run. "
                f"Resolution {quantity(float(x[1] - x[0]), unit)}.",
            )
        )
    energy = drawn.energies(comparison)
    if energy is not None:
        shown.append(
            page.figure(
                energy,
                "The total energy must neither climb nor fall. The fast ripple belongs to the "
                "integrator's time step and is there in the true run as well; thick lines are running "
                "means.",
            )
        )
    rows = comparison.statistics()
    parts = [page.figures(shown)] if shown else []
    if rows:
        parts.append(page.table(["", "true", "imagined", "unit"], rows))
        parts.append(
            page.note(
                "Means over the run; ± is one standard error that counts how long neighbouring "
                "frames resemble each other. Values two or three errors apart are a real difference."
            )
        )
    return parts


def imagined_alone(sheet: Page, motion: Motion) -> None:
    """Adds the section on a motion that there is no true one of."""
    sheet.section(
        "Imagined motion",
        page.paragraph(
            "What the model says would happen; there is no true motion to compare it with."
        ),
        *_animation(sheet, {"imagined": motion}),
    )


def _animation(sheet: Page, motions: dict[str, Motion]) -> list[str]:
    try:
        view = viewer.viewer(motions)
    except ValueError as error:
        return [page.note(f"No film: {error}.")]
    sheet.scripts.append(viewer.SCRIPT)
    return [view]
