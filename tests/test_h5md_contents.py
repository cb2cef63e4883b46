"""What HDF5 allows and H5MD does not is named, whatever object it is, and never fills the memory."""

import re
import tracemalloc

import h5py
import numpy as np
import pytest
from conftest import springs, water

from sciwm.cli import main
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.h5md.errors import FormatError

PLACE = "particles/trajectory"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("contents") / "sound.h5md"
    with H5MDWriter(path) as writer:
        for step in range(4):
            frame = springs(water(step)).with_(
                time=float(step),
                step=step,
                trajectory="one",
                label="warm",
                cell=9 * np.eye(3),
                pbc=np.ones(3, bool),
                charges=np.zeros(3),
                stress=np.eye(3),
                properties={"dipole": np.ones(3)},
            )
            writer.append(frame)
    return path


@pytest.fixture
def copy(sound, tmp_path):
    path = tmp_path / "odd.h5md"
    path.write_bytes(sound.read_bytes())
    return path


def replaced(shape, **options):
    def change(file, place):
        del file[place]
        file.create_dataset(place, shape=shape, **options)

    return change


def linked(target):
    def change(file, place):
        del file[place]
        file[place] = target(file, place)

    return change


def empty(file, place):
    del file[place]
    file.create_dataset(place, data=h5py.Empty("f8"))


def group(file, place):
    del file[place]
    file.create_group(place)


CHANGES = {
    "compound": replaced((4, 3, 3), dtype=[("x", "f8"), ("y", "i4")]),
    "fixed text": replaced((4, 3, 3), dtype="S4"),
    "text": replaced((4, 3, 3), dtype=h5py.string_dtype()),
    "references": replaced((4, 3, 3), dtype=h5py.ref_dtype),
    "unlike rows": replaced((4, 3, 3), dtype=h5py.vlen_dtype(np.float64)),
    "complex": replaced((4, 3, 3), dtype=complex),
    "opaque": replaced((4, 3, 3), dtype="V8"),
    "nothing": empty,
    "one number": replaced((), dtype="f8"),
    "no rows": replaced((0,), dtype="f8"),
    "a billion particles": replaced((4, 10**9, 3), dtype="f4", chunks=True),
    "a trillion frames": replaced((10**12, 3, 3), dtype="f4", chunks=True),
    "a billion steps": replaced((10**9,), dtype="i8", chunks=True),
    "a group": group,
    "a type": linked(lambda file, place: np.dtype("f8")),
    "a link to nowhere": linked(lambda file, place: h5py.SoftLink("/nowhere")),
    "a link to itself": linked(lambda file, place: h5py.SoftLink(f"/{place}")),
    "the file again": linked(lambda file, place: file["/"]),
    "absent": lambda file, place: file.__delitem__(place),
}

OBJECTS = (
    "h5md",
    "h5md/creator",
    "observables/trajectory/dipole/step",
    "observables/trajectory/dipole/value",
    "observables/trajectory/label/value",
    "observables/trajectory/potential_energy/value",
    "parameters/sciwm",
    PLACE,
    f"{PLACE}/box",
    f"{PLACE}/box/edges/value",
    f"{PLACE}/charge",
    f"{PLACE}/position",
    f"{PLACE}/position/value",
    f"{PLACE}/species",
)

ATTRIBUTES = [
    ("h5md", "version"),
    ("h5md/creator", "name"),
    ("parameters/sciwm", "units"),
    (f"{PLACE}/box", "boundary"),
    (f"{PLACE}/box", "dimension"),
    (f"{PLACE}/position/value", "unit"),
]

VALUES = {
    "compound": np.zeros(4, dtype=[("x", "f8"), ("y", "i4")]),
    "number": np.int64(3),
    "text": "nonsense",
    "empty": h5py.Empty("f8"),
    "array": np.zeros((3, 3)),
    "bytes": b"\xff\xfe",
    "nan": np.nan,
    "large": np.int64(2**62),
}


def told(path, capsys) -> str:
    """What `sciwm info` says of a file, after little memory and no crash."""
    tracemalloc.start()
    status = main(["info", str(path)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6
    captured = capsys.readouterr()
    assert status in (0, 2)
    assert "Traceback" not in captured.err
    if status:
        assert captured.err.startswith(f"sciwm info: {path}")
        assert len(captured.err.strip().splitlines()) == 1
    return captured.err or captured.out


@pytest.mark.parametrize("change", CHANGES)
def test_objects_of_another_kind_are_named(copy, sound, capsys, change):
    for place in OBJECTS:
        copy.write_bytes(sound.read_bytes())
        with h5py.File(copy, "r+") as file:
            CHANGES[change](file, place)
        told(copy, capsys)


@pytest.mark.parametrize(("place", "name"), ATTRIBUTES)
def test_attributes_of_another_kind_are_named(copy, sound, capsys, place, name):
    for value in VALUES.values():
        copy.write_bytes(sound.read_bytes())
        with h5py.File(copy, "r+") as file:
            file[place].attrs[name] = value
        told(copy, capsys)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("compound", r"position/value: it holds values of type \[\('x'"),
        ("text", "position/value: it holds text, not numbers"),
        ("references", "position/value: it holds references to other objects"),
        ("a billion particles", "declares 4 rows and holds no more than 0"),
        ("a trillion frames", "declares 1000000000000 rows and holds no more than 0"),
        ("a link to nowhere", r"position: .* needs the datasets `value` and `step`"),
    ],
)
def test_the_object_and_its_fault_are_told(copy, change, said):
    with h5py.File(copy, "r+") as file:
        CHANGES[change](file, f"{PLACE}/position/value")
    with pytest.raises(FormatError, match=said), H5MDFile(copy) as file:
        assert file.trajectories


def test_a_damaged_header_is_told_wherever_it_is(copy, sound, capsys):
    """Whether HDF5 notices or not, and whatever it calls what it notices."""
    content = sound.read_bytes()
    refused = 0
    for header in re.finditer(b"OHDR|TREE|HEAP|SNOD|BTHD|FRHP", content):
        for at in (header.start(), header.start() + 9, header.start() + 30):
            damaged = bytearray(content)
            damaged[at] ^= 0xFF
            copy.write_bytes(damaged)
            refused += told(copy, capsys).startswith("sciwm info:")
    assert refused > 20


def test_a_file_that_is_still_growing_is_no_oddity(sound, capsys):
    """A writer may have claimed room that it has not filled: far less than what cannot be."""
    assert "4 frames in 1 trajectories" in told(sound, capsys)
