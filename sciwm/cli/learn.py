"""`sciwm learn`: from one structure and one reference to a checked world."""

from typing import Any

NOT_MET = 3


def learn(
    structure: str,
    *,
    reference: str,
    until: str,
    out: str | None = None,
    start: str | None = None,
    temperature: str = "300K",
    hottest: str = "1000K",
    calls: int = 500,
    seconds: float | None = None,
    time: str = "500fs",
    encoder: dict[str, Any] | None = None,
    compiled: bool = False,
    seed: int = 0,
) -> int:
    """Teaches a world the motion of a structure: it explores, asks the reference where it is unsure, trains,
    and measures its error on fresh frames, until that is below the goal; the same command continues.

    Ends with status 3 if the budget was spent before. The folder gets model.pt, the world;
    ledger.jsonl with every question, why it was asked and what was answered; and report.html.

    Args:
        structure: A SMILES, or a file that can be imported, of which the last frame is taken; a crystal
            keeps its cell.
        reference: What it learns from, such as gfn2; see `sciwm simulate`.
        until: The goal, such as "force_error < 20 meV/Å": the root mean square error of force components
            in the world's own motion, upper end of the 90 % interval.
        out: The folder; by default runs/ with the name of the file, or the formula.
        start: A run folder or model file to start from, and not to forget.
        temperature: Of the motion that the goal is about.
        hottest: Up to which motion is explored.
        calls: Of the reference, at most.
        seconds: Of the reference, at most.
        time: That each copy of the structure moves in a round.
        encoder: Arguments of the encoder of a world that starts from nothing, such as "{cutoff: 4.0}".
        compiled: Train with a compiled program: a minute's wait, then twice as fast.
        seed: Of every choice, velocity, noise and weight.
    """
    import math
    import sys
    from pathlib import Path

    from sciwm.cli.simulate import simulator_named
    from sciwm.core.state import atoms_from_frame
    from sciwm.core.units import MOLECULAR, parse_quantity
    from sciwm.learning.goal import ErrorGoal
    from sciwm.learning.history import LearningRound
    from sciwm.learning.loop import learn as run
    from sciwm.learning.plan import LearningPlan
    from sciwm.learning.structures import structure_from
    from sciwm.report.learning import error_text, write_learning_page

    goal = ErrorGoal.parse(until)
    plan = LearningPlan(
        temperature=parse_quantity(temperature, "temperature", MOLECULAR),
        hottest=parse_quantity(hottest, "temperature", MOLECULAR),
        calls=calls,
        seconds=math.inf if seconds is None else seconds,
        time=parse_quantity(time, "time", MOLECULAR),
        encoder=encoder or {},
        compiled=compiled,
        seed=seed,
    )
    frame = structure_from(structure, seed)
    name = atoms_from_frame(frame).get_chemical_formula()
    if Path(structure).exists():
        name = Path(structure).name.split(".")[0]
    folder = Path("runs", name) if out is None else Path(out)

    def tell(one: LearningRound) -> None:
        write_learning_page(folder, frame, goal)
        print(
            f"round {one.number}: {one.labels} labels, force error {error_text(one)}; {one.calls:,} of "
            f"{calls:,} calls, {one.seconds:,.1f} s of the reference",
            file=sys.stderr,
            flush=True,
        )

    learned = run(frame, simulator_named(reference), goal, folder, plan, start, tell)
    page = write_learning_page(folder, frame, goal, learned.ending)
    last = learned.last
    print(f"{learned.ending} after {last.calls:,} calls and {last.seconds:,.1f} s of the reference")
    print(f"force error on fresh frames: {error_text(last)}; the goal was {until}")
    print(f"checks: {learned.verdict}")
    print(f"the world: {folder}\nwhat was asked and why: {page}")
    return 0 if learned.ending == "goal met" else NOT_MET
