"""What is wrong with a file, where in it, and what to do."""

from pathlib import Path


class FormatError(ValueError):
    """A file, or a place in it, that cannot be read as H5MD.

    Args:
        file: The file.
        where: The HDF5 path of the object at fault.
        reason: What is wrong with it.
        remedy: What the user can do.
    """

    def __init__(self, file: str | Path, where: str, reason: str, remedy: str):
        # Plain arguments, so that the error survives the trip out of a worker process.
        super().__init__(str(file), where, reason, remedy)
        self.file = Path(file)
        self.where = where
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.file}, at {self.where}: {self.reason}. {self.remedy}."
