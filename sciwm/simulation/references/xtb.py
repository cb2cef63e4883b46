"""GFN2-xTB, real quantum chemistry at a few milliseconds per small molecule: the usual oracle."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import atomic_masses

from sciwm.core.bounds import MOST_WORKERS, require_counts, require_positive
from sciwm.core.frame import Array, Frame
from sciwm.core.neighbours import neighbour_pairs
from sciwm.core.plausibility import require_plausible
from sciwm.core.state import State
from sciwm.core.units import BOHR, BOLTZMANN, HARTREE, MOLECULAR, UnitSystem
from sciwm.simulation.references.workers import Request, Worker, WorkerDied, WorkerTimeout
from sciwm.simulation.simulator import Evaluation, SimulatorError

CLOSEST = 0.4
"""Å. GFN2 answers nonsense without complaint for atoms nearer than any bond is long."""

HEAVIEST = 86
"""The last element GFN2 has parameters for."""


class GeometryError(SimulatorError):
    """A structure the method must not be asked about."""


class ConvergenceError(SimulatorError):
    """The electronic structure did not converge."""


class WorkerError(SimulatorError):
    """The calculation crashed its process twice, or ran past the time limit."""


@dataclass(frozen=True, eq=False)
class Properties:
    """What one calculation tells.

    Attributes:
        energy: eV.
        forces: (N, 3) eV/Å.
        stress: (3, 3) eV/Å³, positive under tension; None where the system does not repeat.
        dipole: (3,) e Å, about the centre of mass; anywhere for neutral systems.
        charges: (N,) Mulliken charges, e.
        gap: From the highest occupied to the lowest empty orbital, eV; infinite if none is empty.
    """

    energy: float
    forces: Array
    stress: Array | None
    dipole: Array
    charges: Array
    gap: float


class GFN2:
    """The GFN2-xTB method (Bannwarth, Ehlert & Grimme, J. Chem. Theory Comput. 15, 1652 (2019)),
    computed by tblite in worker processes.

    Each system starts from its last wave function, which makes the steps of a simulation cheaper
    than single points and leaves energies dependent on the path, by about 1e-7 eV. Systems have the
    lowest spin that their number of electrons allows.

    Args:
        accuracy: tblite's; smaller is tighter.
        electronic_temperature: K, of the orbital occupations.
        solvent: A solvent of the ALPB model, such as "water" or "acetonitrile".
        workers: Processes, of one thread each.
        timeout: Seconds that one system may take.
    """

    def __init__(
        self,
        accuracy: float = 1.0,
        electronic_temperature: float = 300.0,
        solvent: str | None = None,
        workers: int = 1,
        timeout: float = 120.0,
    ):
        require_counts(most=MOST_WORKERS, workers=workers)
        require_positive(accuracy=accuracy)
        require_plausible("temperature", electronic_temperature, MOLECULAR)
        if not timeout > 0:
            raise ValueError(f"a time limit must be positive, got {timeout=} s")
        self._settings: Request = {
            "accuracy": accuracy,
            "electronic_temperature": electronic_temperature * BOLTZMANN / HARTREE,
            "solvent": solvent,
        }
        self._timeout = timeout
        self._workers = [Worker() for _ in range(workers)]
        self._gas: GFN2 | None = None

    @property
    def fingerprint(self) -> str:
        """The method and its settings."""
        return " ".join(["GFN2-xTB", *(f"{key}={value}" for key, value in self._settings.items())])

    @property
    def units(self) -> UnitSystem:
        return MOLECULAR

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """See `Simulator`.

        Raises:
            GeometryError: If atoms are too near, an element is too heavy, or the total charge is
                not an integer.
            ConvergenceError: If the electronic structure does not converge; a higher electronic
                temperature may help.
            WorkerError: If the calculation crashes or takes too long.
            ValueError: If stress is asked of a system that does not repeat in three directions.
        """
        if stress and not bool(state.pbc.all()):
            raise ValueError("only systems that repeat in all three directions have a stress")
        found = []
        for answer in self.properties([state.frame(s) for s in range(state.n_systems)]):
            if isinstance(answer, SimulatorError):
                raise answer
            found.append(answer)

        def tensor(values: object) -> torch.Tensor:
            return torch.as_tensor(np.asarray(values)).to(state.positions)

        return Evaluation(
            # A difference of large energies must outlive single precision.
            energy=torch.tensor([one.energy for one in found], dtype=torch.float64).to(
                state.positions.device
            ),
            forces=tensor(np.concatenate([one.forces for one in found])),
            stress=tensor([one.stress for one in found]) if stress else None,
        )

    def properties(self, frames: Sequence[Frame]) -> list[Properties | SimulatorError]:
        """All that a calculation tells of each frame; where it failed, the failure instead."""
        n = len(self._workers)
        if n == 1 or len(frames) == 1:
            return [self._compute(s, frame, self._workers[0]) for s, frame in enumerate(frames)]
        found: list[Properties | SimulatorError | None] = [None] * len(frames)

        # A system stays with its worker, where its wave function is: results do not depend on
        # which worker was quicker. The threads only wait.
        def share(k: int) -> None:
            for s in range(k, len(frames), n):
                found[s] = self._compute(s, frames[s], self._workers[k])

        with ThreadPoolExecutor(n) as pool:
            list(pool.map(share, range(min(n, len(frames)))))
        return [answer for answer in found if answer is not None]

    def observe(self, state: State, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """See `PropertySimulator`; energies of charged states are at the same geometry.

        Raises:
            SimulatorError: As `evaluate`; also if a property is not offered, or solvation is asked
                of a simulator without a solvent.
        """
        unknown = [name for name in names if name not in _OFFERED]
        if unknown:
            raise SimulatorError(f"GFN2 offers {', '.join(_OFFERED)}, not {unknown[0]!r}")
        frames = [state.frame(s) for s in range(state.n_systems)]
        here = _sound(self.properties(frames))
        found: dict[str, np.ndarray] = {}
        for name in names:
            if name in ("dipole", "charges", "gap"):
                values = [np.atleast_1d(getattr(one, name)) for one in here]
                whole = np.concatenate if name != "dipole" else np.stack
                found[name] = whole(values)
                continue
            if name == "solvation_energy":
                there = self._in_gas().properties(frames)
            else:
                change = -1 if name == "electron_affinity" else 1
                there = self.properties(
                    [one.with_(total_charge=one.total_charge + change) for one in frames]
                )
            sign = -1 if name == "ionisation_energy" else 1
            pairs = zip(here, _sound(there), strict=True)
            found[name] = sign * np.array([one.energy - other.energy for one, other in pairs])
        return {name: torch.as_tensor(value).to(state.positions) for name, value in found.items()}

    def _in_gas(self) -> "GFN2":
        if self._settings["solvent"] is None:
            raise SimulatorError("there is no solvation energy without a solvent; give GFN2 one")
        if self._gas is None:
            self._gas = GFN2(timeout=self._timeout, workers=len(self._workers))
            self._gas._settings = self._settings | {"solvent": None}
        return self._gas

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        """Nowhere: a reference is what others are compared with."""
        return {}

    def close(self) -> None:
        """Ends the worker processes; a later call starts them again."""
        for worker in self._workers:
            worker.close()
        if self._gas is not None:
            self._gas.close()

    def _compute(self, s: int, frame: Frame, worker: Worker) -> Properties | SimulatorError:
        refusal = _refusal(frame)
        if refusal:
            return GeometryError(f"system {s}: {refusal}", s)
        repeats = bool(np.any(frame.pbc))
        charge = round(frame.total_charge)
        request = self._settings | {
            "system": s,
            "numbers": frame.numbers.tolist(),
            "positions": (frame.positions / BOHR).tolist(),
            "charge": charge,
            "unpaired": int(frame.numbers.sum() - charge) % 2,
            "lattice": (frame.cell / BOHR).tolist() if repeats else None,
            "periodic": frame.pbc.tolist() if repeats else None,
        }
        for last_try in (False, True):
            try:
                reply = worker.ask(request, self._timeout)
                break
            except WorkerTimeout as error:
                return WorkerError(
                    f"system {s} ({len(frame)} atoms): {error}; raise GFN2's timeout if it is "
                    "simply large",
                    s,
                )
            except WorkerDied as error:
                if last_try:
                    return WorkerError(
                        f"system {s} ({len(frame)} atoms) ended its process twice: {error}", s
                    )
        if "error" in reply:
            kind = ConvergenceError if "not converged" in reply["error"] else SimulatorError
            solvent = self._settings["solvent"]
            where = f"system {s}" + (f" in solvent {solvent!r}" if solvent else "")
            return kind(f"GFN2 failed for {where}: {reply['error'].strip()}", s)
        energy, gradient = reply["energy"], np.array(reply["gradient"])
        if not (math.isfinite(energy) and np.isfinite(gradient).all()):
            return SimulatorError(f"GFN2 gave energy {energy} or infinite forces, system {s}", s)
        stress = None
        if frame.pbc.all():
            stress = np.array(reply["virial"]) * HARTREE / abs(np.linalg.det(frame.cell))
        return Properties(
            energy=energy * HARTREE,
            forces=-gradient * HARTREE / BOHR,
            stress=stress,
            dipole=np.array(reply["dipole"]) * BOHR - charge * _centre_of_mass(frame),
            charges=np.array(reply["charges"]),
            gap=_gap(reply["orbital-energies"], reply["orbital-occupations"]) * HARTREE,
        )


_OFFERED = (
    "dipole",
    "charges",
    "gap",
    "electron_affinity",
    "ionisation_energy",
    "solvation_energy",
)


def _sound(answers: list[Properties | SimulatorError]) -> list[Properties]:
    found = []
    for answer in answers:
        if isinstance(answer, SimulatorError):
            raise answer
        found.append(answer)
    return found


def _refusal(frame: Frame) -> str:
    """Why the method must not be asked about this structure; empty if it may."""
    if not np.isfinite(frame.positions).all():
        return "positions are not finite"
    if frame.numbers.min() < 1 or frame.numbers.max() > HEAVIEST:
        wrong = [n for n in frame.numbers.tolist() if not 1 <= n <= HEAVIEST]
        return f"GFN2 knows elements 1 to {HEAVIEST}, not atomic number {wrong[0]}"
    if abs(frame.total_charge - round(frame.total_charge)) > 1e-6:
        return f"the total charge must be an integer, got {frame.total_charge}"
    pairs, _ = neighbour_pairs(frame.positions, frame.cell, frame.pbc, CLOSEST)
    if pairs.shape[1]:
        i, j = pairs[:, 0]
        return f"atoms {i} and {j} are nearer than {CLOSEST} Å; start from a relaxed structure"
    return ""


def _centre_of_mass(frame: Frame) -> Array:
    masses = atomic_masses[frame.numbers] if frame.masses is None else frame.masses
    return np.average(frame.positions, axis=0, weights=masses)


def _gap(energies: Sequence[float], occupations: Sequence[float]) -> float:
    """From the highest occupied to the lowest empty orbital, whatever the smearing."""
    occupied = math.ceil(round(sum(occupations)) / 2)
    return energies[occupied] - energies[occupied - 1] if occupied < len(energies) else math.inf
