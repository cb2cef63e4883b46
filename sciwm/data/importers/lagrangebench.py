"""LagrangeBench's HDF5 trajectories (Toshev et al. 2023, arXiv:2309.16342), in reduced units.

Groups 00000, 00001, ... of positions; time step, box and boundaries stand in `metadata.json`
beside the file. Particle types take the place of atomic numbers.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sciwm.core.frame import Frame
from sciwm.data.importers.hdf5 import first_group, opened, require_shape, rows
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import LJ, SourceUnits


class LagrangeBench:
    """One trajectory per group."""

    name = "LagrangeBench HDF5"
    accepts = frozenset[str]()

    def matches(self, path: Path) -> bool:
        return {"position", "particle_type"} <= set(first_group(path, 1) or {})

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        return LJ.overridden(options.units)

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        units = self.units(path, options)
        metadata = _metadata(path)
        bounds = np.array(metadata["bounds"], dtype=np.float64)
        dimension = len(bounds)
        repeats = metadata.get("periodic_boundary_conditions", [False] * dimension)
        pbc = np.array([*map(bool, repeats[:dimension]), False])[:3]
        pbc = np.concatenate([pbc, np.zeros(3 - len(pbc), dtype=bool)])
        cell = np.zeros((3, 3))
        np.fill_diagonal(cell[:dimension, :dimension], bounds[:, 1] - bounds[:, 0])
        every = int(metadata.get("write_every", 1))
        timestep = options.timestep or float(metadata["dt"])
        with opened(path) as file:
            for name, group in file.items():
                position, types = group["position"], group["particle_type"]
                if position.ndim != 3 or position.shape[2] != dimension:
                    raise SourceError(
                        path,
                        position.name,
                        f"has shape {position.shape}, but metadata.json gives {dimension} bounds",
                        "Put the metadata.json of this data set beside the file",
                    )
                require_shape(types, position.shape[1:2], path)
                numbers = types[()].astype(np.int64)
                for k, flat in enumerate(rows(position, path)):
                    positions = np.zeros((len(numbers), 3))
                    positions[:, :dimension] = flat
                    yield units.applied(
                        Frame(
                            numbers=numbers,
                            positions=positions,
                            cell=cell * pbc[:, None],
                            pbc=pbc,
                            step=k * every,
                            time=k * every * timestep / units.factor("time"),
                            trajectory=name,
                            dimension=dimension,
                        )
                    )


def _metadata(path: Path) -> dict:
    sidecar = path.with_name("metadata.json")
    if not sidecar.exists():
        raise SourceError(
            path,
            "",
            f"needs {sidecar.name} beside it, for time step and box",
            "Copy it from the data set",
        )
    try:
        metadata = json.loads(sidecar.read_text())
    except ValueError as error:
        raise SourceError(sidecar, "", f"is not JSON ({error})", "Copy it again") from error
    missing = {"dt", "bounds"} - set(metadata)
    if missing:
        raise SourceError(sidecar, "", f"lacks {', '.join(sorted(missing))}", "Add it")
    return metadata
