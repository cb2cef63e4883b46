"""Motions of true simulators that were paid for once, for worlds of later tasks to learn from."""

import hashlib
from pathlib import Path

from sciwm.core.replacement import replacing
from sciwm.planning.problem import Problem
from sciwm.simulation.simulator import Simulator


class MotionStore:
    """Recorded motions in a folder, apart by what they are motions of.

    What was wanted of a motion, and what was done, does not matter: the forces within a system are those of
    its simulator and its particles.

    Args:
        folder: Made when the first motion is added.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, problem: Problem, simulator: Simulator, motion: Path) -> None:
        """Copies the file of a motion, as `carry_out` records it; one that is there already is left.

        Raises:
            ValueError: If the simulator has no fingerprint, which tells it from all others, or particles
                change.
            OSError: If it cannot be read or copied.
        """
        if problem.changes_particles:
            raise ValueError(
                "particles of this problem are changed, so that its motions are not of those it starts with; "
                "learn from them where they are made"
            )
        content = motion.read_bytes()
        place = self._place(problem, simulator)
        path = place / f"{hashlib.sha256(content).hexdigest()[:16]}.h5md"
        if path.exists():
            return
        place.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)

    def of(self, problem: Problem, simulator: Simulator) -> list[Path]:
        """Files of motions of the same particles in the same simulator.

        Raises:
            ValueError: If the simulator has no fingerprint.
        """
        if problem.changes_particles:
            return []
        return sorted(self._place(problem, simulator).glob("*.h5md"))

    def _place(self, problem: Problem, simulator: Simulator) -> Path:
        fingerprint = getattr(simulator, "fingerprint", None)
        if not fingerprint:
            raise ValueError(
                f"{type(simulator).__name__} has no fingerprint, by which its motions are told from those of "
                "others; give it one"
            )
        start = problem.start
        who = [start[key].tolist() for key in ("numbers", "charges", "total_charge", "unpaired")]
        kind = f"{fingerprint} {simulator.units.name} {who}"
        return self.folder / hashlib.sha256(kind.encode()).hexdigest()[:16]
