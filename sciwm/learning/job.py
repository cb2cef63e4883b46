"""Of what a folder is: the structure, the reference and the conditions that it was begun with."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sciwm.core.frame import Frame
from sciwm.core.replacement import replacing
from sciwm.core.state import State
from sciwm.data.collection import geometry_hash
from sciwm.learning.plan import LearningPlan
from sciwm.simulation.simulator import Simulator

GUIDE = """\
What lies here
  model.pt          the world of the last round that was measured; once the end is reached, with its checks
  labels.h5md       all labels, once the end is reached
  ledger.jsonl      every question to the reference: why, what was answered, how wrong the world was, cost
  report.html       the same as a page with pictures
  job.json          of what, by which reference
  rounds/           what the round under way needs
"""


def claim(
    folder: Path, structure: Frame, reference: Simulator, plan: LearningPlan, parent: Path | None
) -> None:
    """Writes down of what a new folder is, or sees that it is still that.

    The goal, the budget, and how much a round asks and trains may change from one call to the next.

    Raises:
        ValueError: If the folder is of another job, or of something else.
    """
    job = {
        "structure": geometry_hash(structure).hex(),
        "formula": State.from_frame(structure).to_ase().get_chemical_formula(),
        "reference": getattr(reference, "fingerprint", type(reference).__name__),
        "temperature": plan.temperature,
        "encoder": plan.encoder,
        "seed": plan.seed,
        "start": None if parent is None else hashlib.sha256(parent.read_bytes()).hexdigest(),
    }
    path = folder / "job.json"
    if not path.is_file():
        if any(one.name != ".lock" for one in folder.iterdir()):
            raise ValueError(f"{folder} holds something else; name a new folder with --out")
        (folder / "README.txt").write_text(GUIDE)
        with replacing(path) as file:
            file.write(json.dumps(job, indent=1, ensure_ascii=False).encode())
        return
    known = job_of(folder)
    for name, value in job.items():
        if known.get(name) != value:
            told = "formula" if name == "structure" else name
            raise ValueError(
                f"{folder} was begun with another {name} ({known.get(told)}, this is {job[told]}); name "
                "another folder with --out, or give what it was begun with"
            )


def job_of(folder: Path) -> dict[str, Any]:
    """Of what a folder is."""
    found: dict[str, Any] = json.loads((folder / "job.json").read_text())
    return found
