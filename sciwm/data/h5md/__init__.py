"""H5MD, the trajectory format of sciwm: reading every legal file, writing portable ones."""

from sciwm.data.h5md.errors import FormatError
from sciwm.data.h5md.reader import H5MDFile
from sciwm.data.h5md.replicas import Replicas
from sciwm.data.h5md.trajectory import Trajectory, Window
from sciwm.data.h5md.writer import H5MDWriter

__all__ = ["FormatError", "H5MDFile", "H5MDWriter", "Replicas", "Trajectory", "Window"]
