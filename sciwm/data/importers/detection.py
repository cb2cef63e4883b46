"""Which importer reads a source, told from its content."""

from pathlib import Path

from sciwm.data.importers.amber import Amber
from sciwm.data.importers.ani import ANI
from sciwm.data.importers.ase_formats import ASEFormats
from sciwm.data.importers.dcd import DCD
from sciwm.data.importers.deepmd import DeepMD
from sciwm.data.importers.extxyz import ExtendedXYZ
from sciwm.data.importers.gro import GRO
from sciwm.data.importers.h5md import H5MD
from sciwm.data.importers.lagrangebench import LagrangeBench
from sciwm.data.importers.lammps_dump import LammpsDump
from sciwm.data.importers.md17 import MD17
from sciwm.data.importers.mdanalysis import MDAnalysisFile
from sciwm.data.importers.mdtraj_hdf5 import MDTrajHDF5
from sciwm.data.importers.qm7x import QM7X
from sciwm.data.importers.source import Importer, SourceError, foreign_reader
from sciwm.data.importers.spice import Spice
from sciwm.data.importers.timewarp import Timewarp
from sciwm.data.importers.torchmdnet import TorchMDNet
from sciwm.data.importers.torchsim import TorchSim
from sciwm.data.importers.trr import TRR
from sciwm.data.importers.xtc import XTC

IMPORTERS: tuple[Importer, ...] = (
    H5MD(),
    MDTrajHDF5(),
    TorchSim(),
    LagrangeBench(),
    Spice(),
    ANI(),
    QM7X(),
    TorchMDNet(),
    MD17(),
    Timewarp(),
    ExtendedXYZ(),
    LammpsDump(),
    DeepMD(),
    XTC(),
    TRR(),
    DCD(),
    Amber(),
    GRO(),
    MDAnalysisFile(),
    ASEFormats(),
)
"""In the order in which they are asked: signatures first, suffixes last."""


def detect(path: Path) -> Importer:
    """The first importer that recognises the content of `path`.

    Raises:
        SourceError: If the path does not exist or no importer recognises it.
    """
    if not path.exists():
        raise SourceError(path, "", "does not exist", "Check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(path, "", "is empty", "Write or download it again")
    for importer in IMPORTERS:
        with foreign_reader(path, ""):  # a damaged file may already fail here
            if importer.matches(path):
                return importer
    names = ", ".join(importer.name for importer in IMPORTERS)
    raise SourceError(
        path,
        "",
        "is in no format that can be recognised",
        f"Known are {names}; convert it to extended XYZ (ase.io.write) or one of those",
    )
