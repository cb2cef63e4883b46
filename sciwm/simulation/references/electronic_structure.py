"""What methods of quantum chemistry have in common: questions in atomic units to worker processes."""

import abc
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from ase.data import atomic_masses

from sciwm.core.bounds import MOST_WORKERS, require_counts
from sciwm.core.electrons import ionised, unpaired_electrons
from sciwm.core.frame import Array, Frame
from sciwm.core.neighbours import neighbour_pairs
from sciwm.core.state import State
from sciwm.core.units import BOHR, HARTREE, MOLECULAR, UnitSystem
from sciwm.simulation.references.reference import (
    ConvergenceError,
    GeometryError,
    Reference,
    WorkerError,
)
from sciwm.simulation.references.workers import Reply, Request, Worker, WorkerDied, WorkerTimeout
from sciwm.simulation.simulator import Evaluation, SimulatorError

CLOSEST = 0.4
"""Å. Atoms nearer than any bond is long get nonsense for an answer, and no complaint."""

MEASURED = ("dipole", "charges", "gap")
"""Properties that every calculation gives."""

IONISED = {"electron_affinity": -1, "ionisation_energy": 1}
"""Charge to add for properties that take a second calculation."""


@dataclass(frozen=True)
class Program:
    """Where a method is computed.

    Attributes:
        package: That must be installed.
        extra: Of this package, which brings it.
        engine: The module that a worker runs.
    """

    package: str
    extra: str
    engine: str


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


class ElectronicStructure(Reference):
    """A method that finds the electrons' energy at given nuclei.

    Each system starts from its last wave function, which makes the steps of a simulation cheaper
    than single points and leaves energies dependent on the path, by about 1e-7 eV.

    Args:
        method: What it is called.
        settings: That go with every question to the engine, and tell methods of one name apart.
        workers: Processes, of one thread each.
        timeout: Seconds that one system may take.

    Raises:
        ImportError: If the program is not installed.
    """

    def __init__(
        self, program: Program, method: str, settings: Request, workers: int, timeout: float
    ):
        require_counts(most=MOST_WORKERS, workers=workers)
        if not timeout > 0:
            raise ValueError(f"a time limit must be positive, got {timeout=} s")
        if find_spec(program.package) is None:
            raise ImportError(
                f"{method} needs {program.package}; pip install 'sciwm[{program.extra}]'"
            )
        self._method = method
        self._shown = " ".join([method, *(f"{key}={value}" for key, value in settings.items())])
        self._settings = settings | {"method": method}
        self._timeout = timeout
        self._workers = [Worker(program.engine) for _ in range(workers)]

    @property
    def units(self) -> UnitSystem:
        return MOLECULAR

    @property
    def fingerprint(self) -> str:
        """The method and its settings."""
        return self._shown

    @property
    def offers(self) -> tuple[str, ...]:
        """See `Reference`; solvation energies where there is a solvent."""
        solvated = self._settings.get("solvent") is not None
        return (*MEASURED, *IONISED, *(["solvation_energy"] if solvated else []))

    @abc.abstractmethod
    def _limitation(self, frame: Frame) -> str:
        """Why this method must not be asked about a structure; empty if it may."""

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """See `Simulator`.

        Raises:
            GeometryError: If atoms are too near, an element is unknown to the method, or total charge
                and unpaired electrons cannot be.
            ConvergenceError: If the electronic structure does not converge.
            WorkerError: If the calculation crashes or takes too long.
            ValueError: If stress is asked of a system that does not repeat in three directions.
        """
        if stress and not bool(state.pbc.all()):
            raise ValueError("only systems that repeat in all three directions have a stress")
        found = sound(self.properties([state.frame(s) for s in range(state.n_systems)]))

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

    def observe(self, state: State, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """See `PropertySimulator`; energies of charged states are at the same geometry.

        Raises:
            SimulatorError: As `evaluate`; also if a property is not offered.
        """
        self.require(names)
        frames = [state.frame(s) for s in range(state.n_systems)]
        here = sound(self.properties(frames))
        found: dict[str, np.ndarray] = {}
        for name in names:
            if name in MEASURED:
                values = [np.atleast_1d(getattr(one, name)) for one in here]
                whole = np.concatenate if name != "dipole" else np.stack
                found[name] = whole(values)
                continue
            there = sound(self._elsewhere(name, frames))
            sign = -1 if name == "ionisation_energy" else 1
            pairs = zip(here, there, strict=True)
            found[name] = sign * np.array([one.energy - other.energy for one, other in pairs])
        return {name: torch.as_tensor(value).to(state.positions) for name, value in found.items()}

    def properties(self, frames: Sequence[Frame]) -> list[Properties | SimulatorError]:
        """All that a calculation tells of each frame; where it failed, the failure instead."""
        return self._computed(frames, [self._settings] * len(frames))

    def close(self) -> None:
        """See `Reference`."""
        for worker in self._workers:
            worker.close()

    def _computed(
        self, frames: Sequence[Frame], settings: Sequence[Request]
    ) -> list[Properties | SimulatorError]:
        """As `properties`, with settings for each frame."""
        n = len(self._workers)
        if n == 1 or len(frames) == 1:
            only = self._workers[0]
            return [self._compute(s, frame, settings[s], only) for s, frame in enumerate(frames)]
        found: list[Properties | SimulatorError | None] = [None] * len(frames)

        # A system stays with its worker, where its wave function is: results do not depend on
        # which worker was quicker. The threads only wait.
        def share(k: int) -> None:
            for s in range(k, len(frames), n):
                found[s] = self._compute(s, frames[s], settings[s], self._workers[k])

        with ThreadPoolExecutor(n) as pool:
            list(pool.map(share, range(min(n, len(frames)))))
        return [answer for answer in found if answer is not None]

    def _elsewhere(self, name: str, frames: Sequence[Frame]) -> list[Properties | SimulatorError]:
        """The calculations that a property is the difference to."""
        if name == "solvation_energy":
            return self._computed(frames, [self._settings | {"solvent": None}] * len(frames))
        return self.properties([ionised(one, IONISED[name]) for one in frames])

    def _compute(
        self, s: int, frame: Frame, settings: Request, worker: Worker
    ) -> Properties | SimulatorError:
        refusal = _refusal(frame) or self._limitation(frame)
        if refusal:
            return GeometryError(f"system {s}: {refusal}", s)
        repeats = bool(np.any(frame.pbc))
        charge = round(frame.total_charge)
        request = settings | {
            "system": s,
            "numbers": frame.numbers.tolist(),
            "positions": (frame.positions / BOHR).tolist(),
            "charge": charge,
            "unpaired": unpaired_electrons(frame),
            "lattice": (frame.cell / BOHR).tolist() if repeats else None,
            "periodic": frame.pbc.tolist() if repeats else None,
        }
        for last_try in (False, True):
            try:
                return self._properties_from(s, frame, worker.ask(request, self._timeout))
            except WorkerTimeout as error:
                return WorkerError(
                    f"system {s} ({len(frame)} atoms): {error}; raise the timeout of "
                    f"{self._method} if it is simply large",
                    s,
                )
            except WorkerDied as error:
                if last_try:
                    return WorkerError(
                        f"system {s} ({len(frame)} atoms) ended its process twice: {error}", s
                    )
        raise AssertionError

    def _properties_from(self, s: int, frame: Frame, reply: Reply) -> Properties | SimulatorError:
        """What a reply says, in our units."""
        if "error" in reply:
            kind = SimulatorError if reply["converged"] else ConvergenceError
            solvent = self._settings.get("solvent")
            where = f"system {s}" + (f" in solvent {solvent!r}" if solvent else "")
            return kind(f"{self._method} failed for {where}: {reply['error']}", s)
        energy, gradient = reply["energy"], np.array(reply["gradient"])
        if not (math.isfinite(energy) and np.isfinite(gradient).all()):
            return SimulatorError(
                f"{self._method} gave energy {energy} or infinite forces, system {s}", s
            )
        stress = None
        if frame.pbc.all():
            stress = np.array(reply["virial"]) * HARTREE / abs(np.linalg.det(frame.cell))
        shift = round(frame.total_charge) * _centre_of_mass(frame)
        return Properties(
            energy=energy * HARTREE,
            forces=-gradient * HARTREE / BOHR,
            stress=stress,
            dipole=np.array(reply["dipole"]) * BOHR - shift,
            charges=np.array(reply["charges"]),
            gap=reply["gap"] * HARTREE,
        )


def sound(answers: list[Properties | SimulatorError]) -> list[Properties]:
    """The answers, none of which may be a failure; the first one is raised."""
    found = []
    for answer in answers:
        if isinstance(answer, SimulatorError):
            raise answer
        found.append(answer)
    return found


def _refusal(frame: Frame) -> str:
    """Why no method must be asked about this structure; empty if one may."""
    if not np.isfinite(frame.positions).all():
        return "positions are not finite"
    if frame.numbers.min() < 1:
        return f"there is no element of atomic number {frame.numbers.min()}"
    try:
        unpaired_electrons(frame)
    except ValueError as error:
        return str(error)
    pairs, _ = neighbour_pairs(frame.positions, frame.cell, frame.pbc, CLOSEST)
    if pairs.shape[1]:
        i, j = pairs[:, 0]
        return f"atoms {i} and {j} are nearer than {CLOSEST} Å; start from a relaxed structure"
    return ""


def _centre_of_mass(frame: Frame) -> Array:
    masses = atomic_masses[frame.numbers] if frame.masses is None else frame.masses
    return np.average(frame.positions, axis=0, weights=masses)
