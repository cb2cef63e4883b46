"""No HDF5 file has others of the disk read into what is made from it."""

import json

import h5py
import numpy as np
import pytest
from ase.build import molecule
from h5py import h5d, h5s, h5t

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.data.collection import Collection
from sciwm.data.h5md import FormatError, H5MDFile, H5MDWriter
from sciwm.data.h5md.contained import ContainedFile
from sciwm.data.h5md.handle import OPEN_DATASETS, Handle
from sciwm.data.importers.convert import convert
from sciwm.data.importers.source import SourceError
from sciwm.data.table import describe

FEATURES = {"external storage": "raw", "a virtual dataset": "virtual", "an external link": "linked"}


def hide(path, name, feature):
    """Moves a dataset into a file beside, from which a feature of HDF5 shows it as before."""
    secret = path.with_name("secret.h5")
    with h5py.File(path, "r+") as file, h5py.File(secret, "w") as other:
        # Stored whole, so that external storage has an address to point to.
        values = other.create_dataset("x", data=file[name][()])
        attributes = dict(file[name].attrs)
        del file[name]
        if feature == "an external link":
            file[name] = h5py.ExternalLink(secret.name, "x")
            values.attrs.update(attributes)
            return
        if feature == "external storage":
            place = [(str(secret), values.id.get_offset(), values.nbytes)]
            file.create_dataset(name, values.shape, values.dtype, external=place)
        else:
            layout = h5py.VirtualLayout(values.shape, values.dtype)
            layout[...] = h5py.VirtualSource(values)
            file.create_virtual_dataset(name, layout)
        file[name].attrs.update(attributes)


@pytest.fixture
def trajectory(tmp_path):
    path = tmp_path / "run.h5md"
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    with H5MDWriter(path) as writer:
        for k in range(4):
            writer.append(
                Frame(
                    numbers=atoms.numbers,
                    positions=atoms.positions + 0.01 * rng.normal(size=(9, 3)),
                    energy=float(k),
                    forces=rng.normal(size=(9, 3)),
                    time=float(k),
                    step=k,
                ),
                "trajectory",
            )
    return path


@pytest.fixture
def conformers(tmp_path):
    """As SPICE keeps them."""
    path = tmp_path / "spice.hdf5"
    atoms = molecule("CH4")
    with h5py.File(path, "w") as file:
        group = file.create_group("methane")
        group["atomic_numbers"] = atoms.numbers
        group["conformations"] = atoms.positions[None].repeat(3, axis=0)
        group["dft_total_energy"] = np.arange(3.0) - 40.0
    return path


def read(path):
    with H5MDFile(path) as file:
        return [trajectory.frame(0) for trajectory in file.trajectories]


def imported(path):
    return convert(path, path.with_suffix(".again.h5md"), progress=False)


def first_of(path):
    data = Collection([path])
    return data.frame(data.frames[0])


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("way", [read, describe, first_of, imported])
@pytest.mark.parametrize("element", ["position", "force"])
def test_a_trajectory_that_shows_another_file_is_refused(trajectory, feature, way, element):
    way(trajectory)
    trajectory.with_suffix(".again.h5md").unlink(missing_ok=True)
    name = f"particles/trajectory/{element}/value"
    hide(trajectory, name, feature)
    with h5py.File(trajectory) as file:
        assert file[name].shape == (4, 9, 3)  # whoever does not look sees nothing strange
    with pytest.raises((FormatError, SourceError), match=f"{name}: this is {feature}"):
        way(trajectory)
    assert not trajectory.with_suffix(".again.h5md").exists()


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize(
    "command", [["info", "FILE"], ["simulate", "emt", "FILE", "1fs", "--out", "OUT"]]
)
def test_commands_refuse_such_a_trajectory_in_one_line(
    trajectory, tmp_path, capsys, feature, command
):
    hide(trajectory, "particles/trajectory/position/value", feature)
    out = tmp_path / "out.h5md"
    places = {"FILE": str(trajectory), "OUT": str(out)}
    assert main([places.get(word, word) for word in command]) == 2
    errors = capsys.readouterr().err
    assert f"this is {feature}" in errors
    assert not out.exists()


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("name", ["conformations", "dft_total_energy"])
def test_a_data_set_that_shows_another_file_is_not_imported(conformers, feature, name):
    assert imported(conformers).frames == 3
    conformers.with_suffix(".again.h5md").unlink()
    hide(conformers, f"methane/{name}", feature)
    with pytest.raises(SourceError, match=f"/methane/{name}: this is {feature}"):
        imported(conformers)
    assert not conformers.with_suffix(".again.h5md").exists()


def test_a_group_that_is_a_link_to_another_file_is_refused_however_it_is_reached(conformers):
    with h5py.File(conformers, "r+") as file:
        file["inside/soft"] = h5py.SoftLink("../methane")
        file["way"] = h5py.SoftLink("/inside/away")
        file["inside/away"] = h5py.ExternalLink("secret.h5", "/")
        file["circle"] = h5py.SoftLink("/circle")
    with h5py.File(conformers.with_name("secret.h5"), "w") as other:
        other["x"] = 1.0
    with ContainedFile(conformers, "r") as file:
        assert file["methane"].file["methane/conformations"].shape == (3, 5, 3)
        for reach in (
            lambda: file["way/x"],
            lambda: file["inside"]["away"],
            lambda: file["inside"].get("away"),
            lambda: file["methane"].parent["way"],
            lambda: file["methane"].file["way"],
            lambda: "x" in file["methane"]["/way"],
            lambda: "way/x" in file,
            lambda: list(file["inside"].values()),
            lambda: list(file.items()),
        ):
            with pytest.raises(FormatError, match="at /inside/away: this is an external link"):
                reach()
        assert file.get("circle") is None
        assert "circle" not in file
        assert file.get("methane/conformations/x") is None


@pytest.mark.parametrize("feature", FEATURES)
def test_a_dataset_is_looked_at_once_or_refused_as_often_as_it_is_asked_for(
    trajectory, feature, monkeypatch
):
    place, way = "particles/trajectory/", ContainedFile._leads
    hide(trajectory, f"{place}force/value", feature)
    asked = []
    monkeypatch.setattr(
        ContainedFile,
        "_leads",
        lambda file, name, *more: asked.append(name) or way(file, name, *more),
    )
    handle = Handle(trajectory, 1 << 20)
    for _ in range(OPEN_DATASETS):
        with pytest.raises(FormatError, match=f"this is {feature}"):
            handle.dataset(f"{place}force/value")
    for name in [f"{place}position/value", f"{place}species", f"{place}position/step"] * 2:
        whole = handle.dataset(name)[()]
        handle._datasets.clear()  # as others that are read do
        np.testing.assert_array_equal(handle.dataset(name)[()], whole)
    assert len(asked) == OPEN_DATASETS + 3


def test_links_inside_a_file_are_followed(conformers):
    with h5py.File(conformers, "r+") as file:
        file["again"] = h5py.SoftLink("/methane")
    assert imported(conformers).frames == 6


def test_a_file_that_declares_more_frames_than_it_holds_says_so(conformers, trajectory, capsys):
    with h5py.File(conformers, "r+") as file:
        values = file["methane/conformations"][()]
        del file["methane/conformations"]
        layout = {"shape": (10**12, 5, 3), "chunks": (3, 5, 3), "dtype": "f8"}
        file.create_dataset("methane/conformations", **layout)[:3] = values
    with pytest.raises(SourceError, match="declares 1000000000000 rows and holds no more than 3"):
        imported(conformers)
    with h5py.File(trajectory, "r+") as file:
        for element in ("position", "force"):
            for name in ("value", "step", "time"):
                file[f"particles/trajectory/{element}/{name}"].resize(10**12, axis=0)
    assert main(["info", str(trajectory)]) == 2
    assert "declares 1000000000000 rows" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["chunked", "compressed", "whole"])
@pytest.mark.parametrize("rows", [10**5, 10**6, 10**9])
def test_frames_that_a_file_has_no_bytes_for_are_refused(tmp_path, rows, kind):
    """In a format of frames that none but their number tells apart: a small one takes long to read."""
    path = tmp_path / "fluid.h5"
    chunks = {"chunked": {"chunks": (64, 3, 2)}, "whole": {}}
    layout = chunks.get(kind, {"chunks": (64, 3, 2), "compression": 1})
    metadata = {"dt": 0.1, "bounds": [[0, 5], [0, 4]], "periodic_boundary_conditions": [True] * 2}
    path.with_name("metadata.json").write_text(json.dumps(metadata))
    with h5py.File(path, "w") as file:
        file["00000/particle_type"] = np.array([0, 0, 3])
        file.create_dataset("00000/position", (rows, 3, 2), "f4", **layout)
    with pytest.raises(SourceError, match=f"position: this declares {rows} rows and holds no more"):
        imported(path)


def test_a_large_dataset_that_was_written_is_read(tmp_path):
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        layout = {"shape": (101, 10_000), "chunks": (10, 10_000), "compression": 1}
        file.create_dataset("compressed", dtype="i1", **layout)[:] = 0
        file.create_dataset("half", dtype="i1", **layout)[:51] = 0
        file.create_dataset("nothing", shape=(101, 10_000), dtype="i1")
    assert path.stat().st_size < 101 * 10_000
    with ContainedFile(path, "r") as file:
        assert file["compressed"].shape == file["half"].shape == (101, 10_000)
        with pytest.raises(FormatError, match="declares 101 rows and holds no more than 0"):
            file["nothing"]
    with h5py.File(path, "r+") as file:
        file["whole"] = np.zeros((101, 10_000), dtype=np.int8)
        h5d.create(file.id, b"times", h5t.UNIX_D32LE, h5s.create_simple((100_000,)))
    with ContainedFile(path, "r") as file:
        assert file["whole"].shape == (101, 10_000)
        assert file["times"].shape == (100_000,)  # of a type that NumPy does not have
