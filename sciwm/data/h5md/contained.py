"""HDF5 files whose data are their own.

HDF5 lets a file show pieces of any other file that its reader may open, as if they were its own:
through external storage, virtual datasets and external links. A file from elsewhere could so have
private files of the reader's disk copied into whatever is made from it. What is reached through a
`ContainedFile` is looked at when it is reached, before anything is read.
"""

import math
import posixpath
from typing import Any

import h5py
from h5py import h5d, h5i, h5l

from sciwm.data.h5md.errors import FormatError

_SOFT_LINKS = 16
"""As many in a row does HDF5 follow."""


_FEW = 100_000
"""Numbers in a dataset that cost nothing to go through, though none of them was written."""


class ForeignDataError(FormatError):
    """A place in a file whose data are in another one."""


class _Contained:
    """What a file and its groups share: the way to their members.

    Everything in h5py that opens a member by name comes through here, but for `parent` and `file`
    of datasets.
    """

    id: Any
    name: str
    filename: str

    def __getitem__(self, name: Any) -> Any:
        if not self._leads(name):
            raise KeyError(f"{name} leads nowhere in {self.name}")
        node = super().__getitem__(name)  # type: ignore[misc]
        if isinstance(node, h5py.Group):
            return ContainedGroup(node.id)
        if isinstance(node, h5py.Dataset):
            properties = node.id.get_create_plist()
            if properties.get_layout() == h5d.VIRTUAL:
                raise _foreign(self.file.filename, node.name, "a virtual dataset")
            if properties.get_external_count() > 0:
                raise _foreign(self.file.filename, node.name, "external storage")
            _require_filled(node)
        return node

    def __contains__(self, name: Any) -> bool:
        return self._leads(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    @property
    def file(self) -> "ContainedFile":
        return ContainedFile(h5i.get_file_id(self.id))

    def _leads(self, name: Any, links: int = 0) -> bool:
        """Whether a path leads anywhere; refuses one that leaves the file, before HDF5 goes there."""
        if not isinstance(name, str):
            return True  # a reference; these stay inside
        trail = "/" if name.startswith("/") else ""
        members = self.id.links
        for part in filter(None, name.split("/")):
            trail += part
            place = trail.encode()
            try:
                if not members.exists(place):
                    return False
            except RuntimeError:  # the way goes on behind something that is no group
                return False
            kind = members.get_info(place).type
            if kind == h5l.TYPE_SOFT:
                target = members.get_val(place).decode(errors="surrogateescape")
                onward = posixpath.join(posixpath.dirname(trail), target)
                if links == _SOFT_LINKS or not self._leads(onward, links + 1):
                    return False
            elif kind != h5l.TYPE_HARD:
                where = posixpath.join("/", self.name, trail)
                raise _foreign(self.file.filename, where, "an external link")
            trail += "/"
        return True


class ContainedGroup(_Contained, h5py.Group):
    """A group of a `ContainedFile`."""


class ContainedFile(_Contained, h5py.File):
    """A file from which nothing is read that is in another one.

    Raises:
        ForeignDataError: Where a member is asked for whose data are elsewhere.
    """


def _require_filled(dataset: h5py.Dataset) -> None:
    """Refuses a dataset that is large by its shape alone: HDF5 makes up what was never written.

    What the bytes of the file have room for is not looked at more closely: going through it takes no
    longer than through a file of that size.
    """
    shape = dataset.id.shape
    numbers = math.prod(shape or ())
    if numbers < _FEW:
        return
    size = h5i.get_file_id(dataset.id).get_filesize()
    itemsize = dataset.id.get_type().get_size()  # of types, too, that NumPy has none for
    if numbers * itemsize <= size:
        return
    if dataset.id.get_create_plist().get_nfilters() == 0:
        held = min(dataset.id.get_storage_size(), size) // itemsize
    else:
        # A chunk has few bytes where it compresses well, but some in any case.
        held = min(dataset.id.get_num_chunks(), size) * math.prod(dataset.chunks)
    rows = held // math.prod(shape[1:])
    if rows < shape[0] / 2:
        raise FormatError(
            dataset.file.filename,
            dataset.name,
            f"this declares {shape[0]} rows and holds no more than {rows}",
            "The file is incomplete or damaged: copy it again, or make it anew",
        )


def _foreign(file: str, where: str, feature: str) -> ForeignDataError:
    return ForeignDataError(
        file,
        where,
        f"this is {feature}, which takes its data from other files, and none but this was given",
        "Make a file that holds its own data, as h5repack or h5py's copy(expand_external=True) do",
    )
