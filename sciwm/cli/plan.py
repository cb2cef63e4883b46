"""`sciwm plan`: the best actions in imagination, carried out in the true simulator."""


def plan(config: str, *, name: str | None = None, folder: str = "runs") -> int:
    """Plans what to do to a system as a YAML file says, and goes on with it if it was interrupted.

    Any option of the file can be given after it, such as --executions 8; `sciwm plan --options` lists them
    all. The folder of the plan gets plan.yaml, the plan as a file of actions for `sciwm simulate`;
    plan.json with what was predicted and what came of it; imagined.h5md and true.h5md; and report.html.

    Ends with status 3 if what the plan promised did not come in the true simulator.

    Args:
        config: The job file (YAML: start, actions, measure, objective), or the name of one that comes with
            sciwm.
        name: Of the folder; the file's own name where absent.
        folder: Where folders are made.
    """
    raise AssertionError("handled by `run`, which knows the options of the job file")


def run(arguments: list[str]) -> int:
    """Parses the job with jsonargparse, plans, carries out, writes the page."""
    from pathlib import Path

    import torch

    from sciwm.cli.job_files import read_job
    from sciwm.cli.simulate import SOME_STOPPED, simulator_named, starting_frames
    from sciwm.core.file_lock import sole_writer
    from sciwm.core.state import State
    from sciwm.interfaces.planning import PlanJob, identity
    from sciwm.planning.library import ProtocolLibrary
    from sciwm.planning.plan import plan_and_carry_out
    from sciwm.report.planning import write_plan_page

    found = read_job(arguments, "plan", PlanJob, "a plan")
    if found is None:
        return 0
    job, parsed = found
    folder = Path(parsed.folder) / parsed.name
    worlds = [simulator_named(one) for one in job.worlds]
    reference = simulator_named(job.reference) if job.reference else None
    frames = starting_frames(job.start, "-1", worlds[0].units, job.budget.seed)
    if len(frames) != 1:
        raise ValueError(
            f"{job.start} holds {len(frames)} systems, and a plan is for one; give one of them"
        )
    start = State.from_frame(frames[0], torch.float64)
    problem = job.problem(start, worlds[0].units)
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder, "wait until it ends, or give another --name"):
        done = plan_and_carry_out(
            problem,
            worlds,
            reference,
            job.search_for(),
            job.budget,
            job.executions,
            folder,
            identity(job, start, worlds),
            None if job.library is None else ProtocolLibrary(Path(job.library)),
        )
        page = write_plan_page(done, folder / "report.html")
    told = done.figures()
    unit = f" {told['unit']}" if told["unit"] else ""
    low, high = told["interval"]
    print(f"objective: {told['objective']}")
    print(
        f"predicted: {told['predicted']:.4g}{unit}, nine of ten runs from {low:.4g} to {high:.4g}"
    )
    if "realised" in told:
        runs = ", ".join("failed" if one is None else f"{one:.4g}" for one in told["realised"])
        print(f"realised: {runs}{unit}; {told['inside']} of {len(told['realised'])} as predicted")
    if told["random_plans"] is not None:
        print(f"plans drawn at random: {told['random_plans']:.4g}{unit} on the mean")
    print(f"the plan: {folder / 'plan.yaml'}\nthe page with pictures: {page}")
    if told.get("loophole"):
        print(f"not to be believed: {told['loophole']}")
        return SOME_STOPPED
    return 0
