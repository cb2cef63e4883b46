"""What every importer promises, and how it says that a file is broken."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sciwm.core.bounds import require_positive
from sciwm.core.frame import Frame
from sciwm.core.properties import require_known
from sciwm.data.importers.remarks import Remarks
from sciwm.data.importers.source_units import SourceUnits


class SourceError(ValueError):
    """A source that cannot be imported, or not without being told more.

    Attributes:
        path: The file or folder.
        position: Line, frame or HDF5 path; empty where the whole file is meant.
        reason: What was wrong.
        remedy: What to do about it.
    """

    def __init__(self, path: Path, position: str, reason: str, remedy: str = ""):
        self.path = path
        self.position = position
        self.reason = reason
        self.remedy = remedy
        where = f"{path}, {position}" if position else f"{path}"
        super().__init__(f"{where}: {reason}" + (f". {remedy}" if remedy else ""))


@dataclass(frozen=True)
class ImportOptions:
    """What a file does not say about itself, and where its importer says what it made of that.

    Attributes:
        units: See `SourceUnits.overridden`.
        topology: A file that names the atoms of a trajectory (PDB, GRO, PSF, ...).
        elements: One symbol per particle type ("Na,Cl"), or a formula with one symbol per atom
            ("(OHH)64").
        timestep: Time between integrator steps, in fs, or in reduced units; frames without step
            numbers count as one step each. Says that the frames follow one another in time.
        energy_key, forces_key: Names of the labels in formats that leave them to the writer.
        properties: Under which name the source keeps each property of `core.properties.PROPERTIES`
            that is wanted, such as {"dipole": "REF_dipole"}; read from extended XYZ. Frames may
            lack some.
        skip_bad: Leave out frames that would be refused, and count them.
        remarks: Filled by the importer while it reads.
    """

    units: str | None = None
    topology: Path | None = None
    elements: str | None = None
    timestep: float | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    properties: dict[str, str] = field(default_factory=dict)
    skip_bad: bool = False
    remarks: Remarks = field(default_factory=Remarks, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_known(self.properties)
        require_positive(timestep=self.timestep)

    @property
    def given(self) -> dict[str, Any]:
        """Those that the user has stated, by name."""
        stated = {**vars(self)}
        del stated["remarks"]
        return {
            name: value
            for name, value in stated.items()
            if value is not None and value is not False and value != {}
        }


COMMON_OPTIONS = frozenset({"units", "timestep", "skip_bad"})
"""Options that serve every format."""


class Importer(Protocol):
    """Reads one format as a stream of frames.

    Attributes:
        name: Of the format.
        accepts: Options it has a use for, besides `COMMON_OPTIONS`; others are refused.
    """

    name: str
    accepts: frozenset[str]

    def matches(self, path: Path) -> bool:
        """Whether the content of `path` looks like this format; looks at a few bytes only."""

    def units(self, path: Path, options: ImportOptions) -> SourceUnits:
        """The units that `frames` converts from.

        Raises:
            SourceError: If neither the file nor the options say.
        """

    def frames(self, path: Path, options: ImportOptions) -> Iterator[Frame]:
        """The frames in order, one in memory at a time, in sciwm's units.

        Raises:
            SourceError: At the first thing that cannot be read.
        """


@contextmanager
def foreign_reader(path: Path, position: str) -> Iterator[None]:
    """Turns whatever another package's reader raises into a `SourceError` at this position."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # readers of other packages raise anything on a broken file
        raise SourceError(
            path,
            position,
            f"cannot be read ({type(error).__name__}: {error})",
            "Check that the file is complete",
        ) from error
