"""Damage to HDF5 files in terms of HDF5: types, shapes, links, attributes, declared sizes."""

from pathlib import Path
from random import Random

import h5py
import numpy as np

from fuzzing.mutation import changed_array

LARGE = 10**6
"""Numbers in a dataset that are not read to be changed: an earlier change only declared them."""


def change(rng: Random, path: Path) -> None:
    """One or two changes, in place."""
    for _ in range(rng.choice((1, 1, 2))):
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            if names:
                _change_one(rng, file, rng.choice(names))


def _change_one(rng: Random, file: h5py.File, name: str) -> None:
    place = file[name] if file.get(name, getlink=True) and name in file else None
    # The data of an earlier change may be in a file that is not there, and is not to be made.
    own = isinstance(place, h5py.Dataset) and not place.external
    kind = rng.randrange(7)
    if kind == 0 or place is None:
        del file[name]
    elif kind == 1:
        _change_attribute(rng, place)
    elif kind == 2 and own and (place.size or 0) < LARGE:
        content = place[()]
        del file[name]
        file[name] = changed_array(rng, np.asarray(content)) if _numeric(content) else 1.0
    elif kind == 3 and own and place.dtype.kind in "fiu" and place.size:
        with np.errstate(all="ignore"):
            value = np.array(rng.choice((np.nan, np.inf, 1e37, -1.0, 0.0, 1e9))).astype(place.dtype)
        place[tuple(rng.randrange(n) for n in place.shape)] = value
    elif kind == 4:
        _replace_by_oddity(rng, file, name)
    elif kind == 5 and isinstance(place, h5py.Dataset) and place.shape:
        # Declared and never written: gigabytes in a file of kilobytes.
        shape = (rng.choice((10**6, 10**9)), *place.shape[1:])
        dtype = place.dtype
        del file[name]
        chunks = tuple(min(n, 64) for n in shape) if all(shape) else None
        file.create_dataset(name, shape, dtype, chunks=chunks)
    else:
        file.move(name, name + rng.choice(("_", "2", "é")))


def _numeric(content: object) -> bool:
    return np.asarray(content).dtype.kind in "fiub"


def _change_attribute(rng: Random, place: h5py.Group | h5py.Dataset) -> None:
    names = list(place.attrs)
    if not names:
        place.attrs["unit"] = "x"
        return
    name = rng.choice(names)
    if rng.random() < 0.3:
        del place.attrs[name]
    else:
        odd = (
            1,
            -1,
            np.nan,
            "",
            "x",
            np.bytes_(b"\xff"),
            np.zeros((2, 2)),
            h5py.Empty("f8"),
            place.ref,
        )
        place.attrs[name] = rng.choice(odd)


def _replace_by_oddity(rng: Random, file: h5py.File, name: str) -> None:
    reference = file.ref
    del file[name]
    kind = rng.randrange(8)
    if kind == 0:
        file.create_group(name)
    elif kind == 1:
        file[name] = h5py.SoftLink(rng.choice(("/", "/nowhere", f"/{name}")))
    elif kind == 2:
        file[name] = h5py.ExternalLink(rng.choice(("nowhere.h5", "labelled.h5md")), "/particles")
    elif kind == 3:
        file[name] = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
    elif kind == 4:
        file[name] = h5py.Empty("f8")
    elif kind == 5:
        file[name] = np.array(["x", "é"], dtype=object)
    elif kind == 6:
        file.create_dataset(name, (2,), dtype=h5py.ref_dtype)[0] = reference
    else:
        file.create_dataset(name, (4, 3), "f8", external=[("secret.bin", 0, 96)])
