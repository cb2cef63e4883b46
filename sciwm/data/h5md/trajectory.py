"""One trajectory of an H5MD file: frames and windows in sciwm's units, particles sorted by id."""

from typing import NamedTuple

import numpy as np
from ase.data import atomic_masses
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from sciwm.core.frame import Array, Frame
from sciwm.core.properties import PROPERTIES, property_name
from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.layout import VECTOR_FIELDS, per_particle
from sciwm.data.h5md.particle_order import Roster
from sciwm.data.h5md.particles import ParticleGroup
from sciwm.data.h5md.row_reads import Rows, Source, take
from sciwm.data.h5md.sampling import evenly_spaced, spacing

_COUNTS = frozenset({"numbers", "images", "source_frame", "unpaired"})


class Window(NamedTuple):
    """Successive frames of one system. Fields not known at every frame of it are None.

    Attributes:
        positions: (W, N, 3), any periodic image.
        velocities: (W, N, 3).
        forces: (W, N, 3).
        energy: (W,).
        cell: (W, 3, 3), or (3, 3) where the box does not change.
        properties: (W, ...) by name; those not known at every frame are left out.
    """

    positions: Array
    velocities: Array | None
    forces: Array | None
    energy: Array | None
    cell: Array
    properties: dict[str, Array]


class Trajectory:
    """A series of frames of one system, read from the file as they are asked for.

    Values are in Å, eV, fs, u and e, or reduced as the file. Particles are sorted by id where
    the file has ids. A field may be sampled more seldom than the positions: frames between its
    samples are then without it (`frame` and `window` give None, `read` raises).

    Attributes:
        name: The particles group, and the replica after a slash where the group holds several.
        dimension: 1, 2 or 3.
        n_frames: Frames of the positions.
        n_particles: Particles, at most: in some files they come and go.
        fields: Names of the `Frame` attributes that the file holds, at some frames at least;
            properties as `core.properties.property_field` names them.
        steps: (n_frames,) integrator steps; None where positions do not depend on time.
        times: (n_frames,) in fs, or reduced; None where the file gives none.
        breaks: Frames at which a restart or duplicate makes the step not increase.
        unreadable: Fields that are stored but cannot be interpreted, with the reason.
        unstated: Quantities that some value is of and whose unit it does not state.
        unread: HDF5 paths of elements that are no field of a frame.
        group: The particles group.
    """

    def __init__(
        self,
        source: Source,
        group: ParticleGroup,
        name: str,
        columns: slice = slice(None),
        replica: int = 0,
    ):
        """The particles in `columns` of a group, which are copy number `replica` in it."""
        self._source = source
        self.group = group
        self._columns = columns
        self._replica = replica
        self._roster: Roster | None = None
        self.name = name
        self.dimension = group.box.dimension
        self.n_frames = group.n_frames
        width = group.elements["positions"].shape[0]
        self.n_particles = len(range(*columns.indices(width)))
        self.fields = frozenset(group.elements) | ({"smiles"} if group.smiles else set())
        named = {field: property_name(field) for field in group.elements}
        self._properties = {field: name for field, name in named.items() if name is not None}
        self.steps = group.steps
        self.times = group.times
        self.breaks = group.breaks
        self.unreadable = group.unreadable
        self.unstated = group.unstated
        self.unread = group.unread

    def __len__(self) -> int:
        return self.n_frames

    @property
    def timestep(self) -> float | None:
        """Time between stored frames; None where it is unknown or varies."""
        if self.times is None or self.steps is None:
            return None
        return spacing(self.times, self.steps)

    @property
    def consecutive(self) -> bool:
        """Whether this is a time series: the step grows by a constant, apart from the breaks."""
        return self.group.ordered and self.steps is not None and evenly_spaced(self.steps)

    @property
    def first_ids(self) -> NDArray[np.int64] | None:
        """(n,) ids of the particles in the first frame, as stored; None where there are none."""
        ids = self.group.ids
        if ids is None or self.n_frames == 0:
            return None
        dataset = self._source.dataset(ids.path)
        values = dataset[()] if ids.steps is None else dataset[0]
        present = values if ids.fill is None else values[values != ids.fill]
        return np.asarray(present, dtype=np.int64)

    def frame(self, k: int) -> Frame:
        """Frame `k`, counted from the end where negative; absent particles are left out.

        Raises:
            IndexError: If there is no such frame.
            FormatError: If a position is not finite.
        """
        if not -self.n_frames <= k < self.n_frames:
            raise IndexError(f"frame {k} of a trajectory of {self.n_frames} frames")
        k %= self.n_frames
        rows = np.array([k])
        orders = self._order().orders(rows)
        known = {field: self._values(field, rows, orders) for field in self.group.elements}
        first = {field: value[0] for field, value in known.items() if value is not None}
        self._require_finite(first["positions"][None], rows)
        numbers, images, label = (first.get(name) for name in ("numbers", "images", "label"))
        energy, stress = first.get("energy"), first.get("stress")
        source_frame, unpaired = first.get("source_frame"), first.get("unpaired")
        return Frame(
            numbers=np.zeros(len(first["positions"]), dtype=np.int64)
            if numbers is None
            else numbers,
            positions=first["positions"],
            cell=self.group.box.at(k).copy(),
            pbc=self.group.box.pbc_at(k).copy(),
            velocities=self._given(first.get("velocities")),
            forces=self._given(first.get("forces")),
            energy=None if energy is None or np.isnan(energy) else float(energy),
            stress=self._given(stress),
            masses=self._given(first.get("masses")),
            charges=self._given(first.get("charges")),
            total_charge=float(first.get("total_charge", 0.0)),
            unpaired=None if unpaired is None else int(unpaired),
            images=images,
            time=None if self.times is None else float(self.times[k]),
            step=None if self.steps is None else int(self.steps[k]),
            trajectory=self._key(k),
            label=None if label is None else str(label) or None,
            smiles=self.group.smiles,
            source_frame=None if source_frame is None else int(source_frame),
            dimension=self.dimension,
            properties=self._properties_of(first),
        )

    def window(self, start: int, length: int, stride: int = 1) -> Window:
        """The `length` frames `start`, `start + stride`, ... of one run.

        Raises:
            IndexError: If the window does not fit into the trajectory.
            ValueError: If it crosses a break, or particles come or go in it.
            FormatError: If a position is not finite.
        """
        stop = start + (length - 1) * stride
        if start < 0 or length < 1 or stride < 1 or stop >= self.n_frames:
            raise IndexError(
                f"window of {length} frames from {start} with {stride=} does not fit into "
                f"{self.n_frames} frames"
            )
        crossed = np.searchsorted(self.breaks, [start, stop], side="right")
        if crossed[0] != crossed[1]:
            raise ValueError(
                f"frames {start} to {stop} of {self.name!r} cross the break at frame "
                f"{self.breaks[crossed[0]]}, where the run was restarted; choose windows between "
                "breaks"
            )
        rows = np.arange(start, stop + 1, stride)
        orders = self._order().orders(rows)
        if not self._order().same(rows, orders):
            raise ValueError(
                f"particles come or go between frames {start} and {stop} of {self.name!r}; read "
                "such frames one by one"
            )

        def known(field: str) -> Array | None:
            if field not in self.group.elements:
                return None
            values = self._values(field, rows, orders)
            return None if values is None or np.isnan(values).any() else values

        positions = self._values("positions", rows, orders)
        assert positions is not None
        self._require_finite(positions, rows)
        cell = self.group.box.at(rows)
        found = {name: known(field) for field, name in self._properties.items()}
        return Window(
            positions,
            known("velocities"),
            known("forces"),
            known("energy"),
            cell,
            {name: values for name, values in found.items() if values is not None},
        )

    def read(self, field: str, frames: slice | NDArray[np.int64] = slice(None)) -> np.ndarray:
        """A field at some frames; NaN where the file says NaN.

        Returns:
            (W, n, 3) or (W, n) for what belongs to particles, (W,) for energy, total charge and
            label, (W, 3, 3) for stress, (W, ...) for properties. What the file stores once, for all
            frames, comes without W: (n,) or (n, 3), in the order of the first frame, or a scalar
            array.

        Raises:
            ValueError: If the file lacks the field, at all or at one of the frames.
        """
        if field == "smiles" and self.group.smiles is not None:
            return np.array(self.group.smiles)
        if field not in self.group.elements:
            reason = self.unreadable.get(field, f"it has {', '.join(sorted(self.fields))}")
            raise ValueError(f"{self._source.location}: {self.name!r} has no {field}: {reason}")
        if field in self.group.constants:
            values = self.group.constants[field]
            if not per_particle(field):
                return self._finished(field, values)
            return self._finished(field, self._order().constants(values, 0))
        rows = np.arange(self.n_frames)[frames]
        orders = self._order().orders(rows) if per_particle(field) else None
        if not self._order().same(rows, orders):
            raise ValueError(
                f"{self._source.location}: particles of {self.name!r} come and go; read such "
                "frames one by one"
            )
        found = self._values(field, rows, orders)
        if found is None:
            missing = int((self.group.rows[field][rows] < 0).sum())
            raise ValueError(
                f"{self._source.location}: {missing} of the {len(rows)} frames of {self.name!r} "
                f"have no {field}; it is sampled more seldom than the positions"
            )
        return found

    def _order(self) -> Roster:
        if self._roster is None:
            self._roster = Roster(self._source, self.group, self._columns)
        return self._roster

    def _values(
        self, field: str, rows: Rows, orders: list[NDArray[np.int64]] | None
    ) -> np.ndarray | None:
        """(W, ...) finished values; None where a frame has no sample of the field."""
        group = self.group
        of_particles = per_particle(field)
        if field in group.constants:
            constant = group.constants[field]
            if not of_particles:
                return self._finished(field, np.stack([constant] * len(rows)))
            parts = [self._order().constants(constant, int(row)) for row in rows]
            return self._finished(field, np.stack(parts))
        element = group.elements[field]
        dataset = self._source.dataset(element.path)
        if element.steps is None:
            values = dataset[self._columns][None]
            scale = element.scale
        else:
            samples = group.rows[field][rows] if field in group.rows else rows
            if (samples < 0).any():
                return None
            values = take(dataset, samples, self._columns if of_particles else slice(None))
            scale = element.scale
            if isinstance(scale, np.ndarray):
                scale = scale[samples]
        if orders is not None and of_particles:
            values = np.stack([value[order] for value, order in zip(values, orders, strict=True)])
        finished = self._finished(field, values, scale)
        if field == "velocities" and group.momenta:
            return finished / self._weights(rows, orders)[..., None]
        return finished

    def _weights(self, rows: Rows, orders: list[NDArray[np.int64]] | None) -> np.ndarray:
        """(W, n) masses; those of the elements where the file gives none."""
        masses = self._values("masses", rows, orders) if "masses" in self.fields else None
        if masses is not None:
            return masses
        numbers = self._values("numbers", rows, orders) if "numbers" in self.fields else None
        if numbers is None:
            raise FormatError(
                self._source.location,
                self.group.elements["velocities"].path,
                "momenta need masses or elements to become velocities",
                "Store mass or species",
            )
        return atomic_masses[numbers]

    def _finished(
        self, field: str, values: np.ndarray, scale: float | NDArray[np.float64] = 1.0
    ) -> np.ndarray:
        """Values as float64 in sciwm's units and three axes; text as text."""
        if values.dtype.kind in "OS":
            decoded = [v.decode() if isinstance(v, bytes) else str(v) for v in values.ravel()]
            return np.array(decoded).reshape(values.shape)
        if field == "energy" and self.group.elements[field].shape:
            values = values[..., self._replica]  # (S,), or (1,) from writers of one-element rows
        if field == "stress" and values.shape[-2:] != (3, 3):
            values = voigt_6_to_full_3x3_stress(values)
        values = values.astype(np.int64) if field in _COUNTS else values.astype(np.float64) * scale
        if field in VECTOR_FIELDS and values.shape[-1] < 3:
            missing = np.zeros((*values.shape[:-1], 3 - values.shape[-1]), dtype=values.dtype)
            values = np.concatenate([values, missing], axis=-1)
        return values

    def _properties_of(self, values: dict[str, np.ndarray]) -> dict[str, Array | float]:
        """Those of one frame that the file does not say are unknown."""
        known: dict[str, Array | float] = {}
        for field, name in self._properties.items():
            value = self._given(values.get(field))
            if value is not None:
                known[name] = (
                    value if PROPERTIES[name].shape or per_particle(field) else float(value)
                )
        return known

    def _given(self, values: np.ndarray | None) -> np.ndarray | None:
        """The values, or None where the file says that they are unknown by NaN."""
        return None if values is None or np.isnan(values).any() else values

    def _require_finite(self, positions: Array, rows: Rows) -> None:
        if np.isfinite(positions).all():
            return
        window, particle = np.argwhere(~np.isfinite(positions))[0][:2]
        raise FormatError(
            self._source.location,
            self.group.elements["positions"].path,
            f"the position of particle {particle} in frame {rows[window]} of {self.name!r} is "
            f"{positions[window, particle]}",
            "Leave that frame out, or cut the file before it: the run has probably blown up",
        )

    def _key(self, k: int) -> str:
        """Frames between the same two breaks share a key; independent frames have none."""
        if not self.group.ordered:
            return ""
        segment = int(np.searchsorted(self.breaks, k, side="right"))
        return f"{self._source.location}:{self.name}" + (f"#{segment}" if segment else "")
