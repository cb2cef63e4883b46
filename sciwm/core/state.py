"""The state of many systems at once, as tensors: what models read and simulations move.

Batching follows torch-geometric: `State.collate` concatenates systems along the atoms, and
`state.batch` says which system each atom belongs to.
"""

import copy
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase import units as ase_units
from ase.data import atomic_masses
from torch import Tensor
from torch_geometric.data import Data

from sciwm.core.electrons import unpaired_stated
from sciwm.core.frame import Array, Frame
from sciwm.core.properties import PROPERTIES, property_field, property_name, require_shape

MAX_NUMBER = 118
"""The largest atomic number, or particle type, a state may hold."""


class State(Data):
    """One or many systems of particles.

    A (atoms) runs over all particles of all systems, S over systems, P over neighbour pairs.

    | field          | shape     | meaning                                               |
    |----------------|-----------|-------------------------------------------------------|
    | `numbers`      | (A,)      | int64, atomic number or particle type                 |
    | `positions`    | (A, 3)    | any periodic image                                    |
    | `velocities`   | (A, 3)    | zero where the source gave none                       |
    | `masses`       | (A,)      |                                                       |
    | `charges`      | (A,)      | charge each particle carries; zero for molecules      |
    | `cell`         | (S, 3, 3) | row vectors; zero rows where a system does not repeat |
    | `pbc`          | (S, 3)    | bool                                                  |
    | `total_charge` | (S,)      |                                                       |
    | `unpaired`     | (S,)      | int64, unpaired electrons; -1: as few as can be       |
    | `dimension`    | (S,)      | int64, 2 where the third component stays zero, else 3  |
    | `batch`        | (A,)      | int64, the system of each atom                        |
    | `stream`       | (S,)      | int64, which random numbers are its own; see `streams` |
    | `work`         | (S,)      | float64, what outer forces have done, where any act   |
    | `energy`       | (S,)      | label, where known                                    |
    | `forces`       | (A, 3)    | label, where known                                    |
    | `stress`       | (S, 3, 3) | label, where known                                    |
    | `properties/…` | (S, ...) or (A, ...) | labels of `PROPERTIES` by name, where known |
    | `pairs`        | (2, P)    | int64, each neighbour pair once (see `neighbours`)    |
    | `shifts`       | (P, 3)    | int64, cell vectors to add to the second of a pair    |
    """

    numbers: Tensor
    positions: Tensor
    velocities: Tensor
    masses: Tensor
    charges: Tensor
    cell: Tensor
    pbc: Tensor
    total_charge: Tensor
    unpaired: Tensor
    dimension: Tensor
    stream: Tensor
    work: Tensor

    @staticmethod
    def from_frame(frame: Frame, dtype: torch.dtype | None = None) -> "State":
        """One system.

        Raises:
            ValueError: If the frame is empty or not finite, a particle type is out of range, or a
                property is unknown or of the wrong shape.
        """
        dtype = dtype or torch.get_default_dtype()
        n = len(frame)
        if n == 0:
            raise ValueError("a state needs at least one particle, got an empty frame")
        if not np.isfinite(frame.positions).all():
            bad = int(np.flatnonzero(~np.isfinite(frame.positions).all(axis=1))[0])
            raise ValueError(
                f"position of particle {bad} is {frame.positions[bad]}; it must be finite"
            )
        if frame.numbers.min() < 0 or frame.numbers.max() > MAX_NUMBER:
            raise ValueError(
                f"particle types must lie in 0..{MAX_NUMBER}, got {frame.numbers.min()}.."
                f"{frame.numbers.max()}"
            )

        def tensor(value: object) -> Tensor:
            return torch.as_tensor(np.array(value, dtype=np.float64)).to(dtype)

        masses = frame.masses if frame.masses is not None else atomic_masses[frame.numbers]
        state = State(
            numbers=torch.as_tensor(np.array(frame.numbers, dtype=np.int64)),
            positions=tensor(frame.positions),
            velocities=tensor(np.zeros((n, 3)) if frame.velocities is None else frame.velocities),
            masses=tensor(masses),
            charges=tensor(np.zeros(n) if frame.charges is None else frame.charges),
            cell=tensor(frame.cell)[None],
            pbc=torch.as_tensor(np.array(frame.pbc, dtype=bool))[None],
            total_charge=tensor([frame.total_charge]),
            unpaired=torch.tensor([-1 if frame.unpaired is None else frame.unpaired]),
            dimension=torch.tensor([frame.dimension]),
            batch=torch.zeros(n, dtype=torch.int64),
            num_nodes=n,
        )
        if frame.energy is not None:
            state.energy = tensor([frame.energy])
        if frame.forces is not None:
            state.forces = tensor(frame.forces)
        if frame.stress is not None:
            state.stress = tensor(frame.stress)[None]
        for name, value in frame.properties.items():
            known = require_shape(name, value, n)
            state[property_field(name)] = tensor(value) if known.per_atom else tensor(value)[None]
        return state

    @staticmethod
    def from_ase(atoms: Atoms | Sequence[Atoms], dtype: torch.dtype | None = None) -> "State":
        """One system or several; see `frame_from_ase`."""
        if isinstance(atoms, Atoms):
            return State.from_frame(frame_from_ase(atoms), dtype)
        return State.collate([State.from_ase(one, dtype) for one in atoms])

    @staticmethod
    def from_smiles(smiles: str, seed: int = 0, dtype: torch.dtype | None = None) -> "State":
        """A molecule in one conformer, embedded by RDKit's ETKDG and relaxed with MMFF94."""
        from sciwm.core.molecules import frame_from_smiles

        return State.from_frame(frame_from_smiles(smiles, seed), dtype)

    @staticmethod
    def collate(states: Sequence["State"]) -> "State":
        """Many systems as one state; only fields that all of them have are kept."""
        if not states:
            raise ValueError("cannot collate an empty list of states")
        parts = [
            one.to_dict()
            for state in states
            for one in ([state] if state.n_systems == 1 else state.systems())
        ]
        sizes = [len(part["batch"]) for part in parts]
        starts = list(accumulate(sizes[:-1], initial=0))
        owner = torch.arange(len(parts)).repeat_interleave(torch.tensor(sizes))
        joined = State(batch=owner.to(parts[0]["batch"].device), num_nodes=sum(sizes))
        shared = set.intersection(*(set(part) for part in parts)) - {"batch", "ptr", "num_nodes"}
        # By torch-geometric's rules, without the bookkeeping of its Batch, which takes a millisecond.
        for key in sorted(shared):
            values = [part[key] for part in parts]
            if key == "pairs":
                values = [pairs + start for pairs, start in zip(values, starts, strict=True)]
            joined[key] = torch.cat(values, dim=joined.__cat_dim__(key, None))
        return joined

    @property
    def n_systems(self) -> int:
        """S."""
        # Not len(): while a program is traced, sizes are symbols.
        return self.cell.shape[0]

    @property
    def counts(self) -> Tensor:
        """(S,) particles in each system."""
        return torch.bincount(self.batch, minlength=self.n_systems)

    def within_dimensions(self, vectors: Tensor) -> Tensor:
        """(A, 3) with the components zeroed that a two-dimensional system does not have."""
        if bool((self.dimension == 3).all()):
            return vectors
        axes = torch.arange(3, device=vectors.device) < self.dimension[self.batch][:, None]
        return vectors * axes

    @property
    def streams(self) -> Tensor:
        """(S,) which random numbers are each system's own: `stream`, or else its place."""
        if "stream" in self.fields:
            return self.stream
        return torch.arange(self.n_systems, device=self.batch.device)

    def moved(self, positions: Tensor, velocities: Tensor | None = None) -> "State":
        """The same systems elsewhere; labels and neighbour pairs of the old positions are left behind."""
        there = copy.copy(self)
        fields = there.fields
        for key in _LABELS:
            fields.pop(key, None)
        fields["positions"] = positions
        if velocities is not None:
            fields["velocities"] = velocities
        return there

    def select(self, systems: Sequence[int]) -> "State":
        """Some of the systems, in ascending order, without labels and neighbour pairs.

        Each keeps the random numbers it had.
        """
        kept = torch.zeros(self.n_systems, dtype=torch.bool, device=self.batch.device)
        kept[list(systems)] = True
        rows = kept[self.batch]
        chosen = State(
            batch=(torch.cumsum(kept, 0) - 1)[self.batch[rows]], num_nodes=int(rows.sum())
        )
        for key, value in self.fields.items():
            if isinstance(value, Tensor) and key not in (*_LABELS, "batch", "ptr"):
                chosen[key] = value[rows] if key in PER_ATOM else value[kept]
        chosen.stream = self.streams[kept]
        return chosen

    def system(self, index: int) -> "State":
        """One system of many, without its neighbour pairs."""
        rows = self.batch == index
        n = int(rows.sum())
        part = State(batch=torch.zeros(n, dtype=torch.int64, device=rows.device), num_nodes=n)
        for key in self.keys():
            value = self[key]
            if key in ("batch", "ptr", "pairs", "shifts") or not isinstance(value, Tensor):
                continue
            per_atom = key in PER_ATOM
            part[key] = value[rows] if per_atom else value[index : index + 1]
        return part

    def systems(self) -> list["State"]:
        """Each of the S systems as a state of its own."""
        return [self.system(s) for s in range(self.n_systems)]

    def frame(self, index: int = 0) -> Frame:
        """One system as plain arrays."""
        one = self.system(index).cpu()

        def array(key: str) -> np.ndarray | None:
            return one[key].detach().numpy().astype(np.float64) if key in one else None

        energy, stress = array("energy"), array("stress")
        properties: dict[str, Array | float] = {}
        for key in sorted(one.keys()):
            name = property_name(key)
            if name is not None:
                value = one[key].detach().numpy().astype(np.float64)
                properties[name] = value if PROPERTIES[name].per_atom else value[0]
        return Frame(
            numbers=one.numbers.numpy(),
            positions=array("positions"),  # type: ignore[arg-type]
            cell=array("cell")[0],  # type: ignore[index]
            pbc=one.pbc[0].numpy(),
            velocities=array("velocities"),
            forces=array("forces"),
            energy=None if energy is None else float(energy[0]),
            stress=None if stress is None else stress[0],
            masses=array("masses"),
            charges=array("charges"),
            total_charge=float(one.total_charge[0]),
            unpaired=one.unpaired_of(0),
            dimension=int(one.dimension[0]),
            properties=properties,
        )

    def unpaired_of(self, index: int) -> int | None:
        """Unpaired electrons of one system, where they are stated."""
        found = int(self.unpaired[index]) if "unpaired" in self.fields else -1
        return None if found < 0 else found

    def to_ase(self, index: int = 0) -> Atoms:
        """One system for ASE, in Å, eV and ASE's unit of velocity."""
        return atoms_from_frame(self.frame(index))

    @property
    def fields(self) -> dict[str, Any]:
        """Every field by its name, where torch-geometric keeps it: a step of dynamics reads sixty."""
        return self.__dict__["_store"].__dict__["_mapping"]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_store"].__dict__["_mapping"][key]
        except KeyError:
            return super().__getattr__(key)

    def __setattr__(self, key: str, value: Any) -> None:
        store = self.__dict__.get("_store")
        if store is not None and key in store.__dict__["_mapping"]:
            store.__dict__["_mapping"][key] = value
        else:
            super().__setattr__(key, value)

    @property
    def batch(self) -> Tensor:
        """(A,) the system of each particle; without torch-geometric's two looks whether there is one."""
        return self.__dict__["_store"].__dict__["_mapping"]["batch"]

    @batch.setter
    def batch(self, batch: Tensor) -> None:
        self.fields["batch"] = batch

    def __inc__(self, key: str, value: object, *args: object, **kwargs: object) -> int:
        return self.num_nodes if key == "pairs" else 0

    def __cat_dim__(self, key: str, value: object, *args: object, **kwargs: object) -> int:
        return 1 if key == "pairs" else 0


_LABELS = ("energy", "forces", "stress", "pairs", "shifts")
"""Fields that belong to the positions they were computed at."""

PER_ATOM = frozenset(
    {"numbers", "positions", "velocities", "masses", "charges", "forces"}
    | {property_field(name) for name, one in PROPERTIES.items() if one.per_atom}
)


def frame_from_ase(atoms: Atoms) -> Frame:
    """A frame with the positions, box and momenta of an ASE `Atoms`.

    Its `info` may state the total charge as `charge` and the multiplicity 2S + 1 as `spin`.

    Raises:
        ValueError: If that is no multiplicity.
    """
    velocities = atoms.get_velocities() * ase_units.fs if atoms.has("momenta") else None
    return Frame(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.copy(),
        cell=np.asarray(atoms.cell) * atoms.pbc[:, None],
        pbc=atoms.pbc.copy(),
        velocities=velocities,
        masses=atoms.get_masses(),
        total_charge=float(atoms.info.get("charge", 0.0)),
        unpaired=unpaired_stated(atoms.info),
    )


def atoms_from_frame(frame: Frame) -> Atoms:
    """An ASE `Atoms` at the positions, box and velocities of a frame."""
    atoms = Atoms(
        numbers=frame.numbers,
        positions=frame.positions,
        cell=frame.cell,
        pbc=frame.pbc,
        masses=frame.masses,
    )
    if frame.velocities is not None:
        atoms.set_velocities(frame.velocities / ase_units.fs)
    if frame.total_charge:
        atoms.info["charge"] = frame.total_charge
    if frame.unpaired is not None:
        atoms.info["spin"] = frame.unpaired + 1
    return atoms
