"""`sciwm new`: an example project to start from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Project:
    """What an example project consists of.

    Attributes:
        about: A line.
        job: Name of the job file that comes with it.
        data: Files of the package's data sets, as FOLDER/FILE.
        commands: What to do there, in order, each with why.
    """

    about: str
    job: str
    data: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]


PROJECTS = {
    "ethanol": Project(
        "energies and forces of one molecule, from GFN2-xTB to a checked model and a film",
        "ethanol",
        ("ethanol_xtb/ethanol_400K.extxyz", "ethanol_xtb/ethanol_nve.h5md"),
        (
            ("sciwm import ethanol_400K.extxyz --to runs/ethanol/train.h5md", "data, as H5MD"),
            ("sciwm train ethanol.yaml", "two to three minutes of one core"),
            ("sciwm check runs/ethanol --data ethanol_nve.h5md", "what it is good for"),
            ("sciwm evaluate runs/ethanol --data ethanol_nve.h5md", "errors on another trajectory"),
            (
                "sciwm simulate runs/ethanol ethanol_nve.h5md 1ps --frames 0 --every 2 --out imagined.h5md",
                "the same start as the true trajectory",
            ),
            (
                "sciwm report runs/ethanol --true ethanol_nve.h5md --imagined imagined.h5md",
                "one page with pictures: runs/ethanol/report.html",
            ),
        ),
    ),
    "particles": Project(
        "charged particles whose law is found from the forces on them",
        "particles",
        ("charged_nbody/softened.h5md",),
        (
            ("sciwm info softened.h5md", "three to eight charges in reduced units"),
            ("sciwm train particles.yaml", "a minute"),
            ("sciwm check runs/particles --data softened.h5md", "symmetries and conservation"),
            (
                "sciwm simulate runs/particles softened.h5md 2 --frames 0 --dt 0.001 --out imagined.h5md",
                "their motion under the law that was found",
            ),
            ("sciwm analyse imagined.h5md", "energy, momenta, temperature"),
        ),
    ),
    "campaign": Project(
        "a search for the most polar small molecule as it moves, without any training",
        "polar",
        (),
        (
            ("sciwm compile organic", "a minute, once: motion is then several times faster"),
            ("sciwm discover polar.yaml", "two minutes; ends with a page: runs/polar/report.html"),
            (
                "sciwm discover polar.yaml --plan.calls 40",
                "goes on where it ended, with more runs of the reference",
            ),
        ),
    ),
}


def new(project: str, *, folder: str | None = None) -> int:
    """Writes an example project: a job file, its data if it has any, and a README with the commands in order.

    Args:
        project: "ethanol" (one molecule, from data to a checked model and a film), "particles" (charges
            whose law is found from the forces on them) or "campaign" (a search for a molecule, without any
            training).
        folder: Where to; by default a new folder of that name. Nothing that is there is overwritten.
    """
    import shlex
    import shutil
    from pathlib import Path

    from sciwm.cli.job_files import DATASETS, SHIPPED

    if project not in PROJECTS:
        raise ValueError(f"no example project {project!r}; there are {', '.join(PROJECTS)}")
    chosen, target = PROJECTS[project], Path(folder or project)
    sources = [SHIPPED / f"{chosen.job}.yaml", *(DATASETS / file for file in chosen.data)]
    readme = target / "README.md"
    for file in (readme, *(target / source.name for source in sources)):
        if file.exists():
            raise FileExistsError(f"{file} exists; give another --folder, or move it away")
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copyfile(source, target / source.name)
    lines = [f"# {project}: {chosen.about}", "", f"    cd {shlex.quote(str(target))}"]
    lines += [f"    {command}  # {why}" for command, why in chosen.commands]
    readme.write_text("\n".join(lines) + "\n")
    print("\n".join([f"written: {target}", "", *lines[2:]]))
    return 0
