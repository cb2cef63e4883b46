"""A source becomes one H5MD file, complete or not at all, and doubtful data are named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase.build import molecule
from conftest import HUNG

from sciwm.cli import main
from sciwm.cli.import_command import import_
from sciwm.data.h5md.reader import H5MDFile
from sciwm.data.importers.convert import convert, fingerprint
from sciwm.data.importers.plausibility import atomic_energy
from sciwm.data.importers.source import ImportOptions, SourceError

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
FORMATS = DATA / "md_formats"

WATER = molecule("H2O")
ENERGY = -2081.0  # eV, PBE


def frames_of_water(count=6, seed=0):
    """Shaken water molecules with made-up but plausible labels."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        atoms = WATER.copy()
        atoms.rattle(0.05, rng=rng)
        atoms.info["energy"] = ENERGY + rng.normal()
        atoms.arrays["forces"] = rng.normal(size=(3, 3))
        images.append(atoms)
    return images


def written(path, images):
    # Labels as plain columns, so that frames may lack them.
    ase.io.write(path, images, format="extxyz")
    return path


def imported(source, to, **options):
    return convert(source, to, ImportOptions(**options), progress=False)


def read_back(path):
    with H5MDFile(path) as file:
        return [[t.frame(k) for k in range(len(t))] for t in file.trajectories]


def test_frames_come_back_as_they_were(tmp_path):
    images = frames_of_water()
    source = written(tmp_path / "w.xyz", images)
    report = imported(source, tmp_path / "w.h5md")
    ((*frames,),) = read_back(tmp_path / "w.h5md")
    assert report.frames == len(frames) == 6
    for frame, atoms in zip(frames, ase.io.read(source, ":"), strict=True):
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-12)
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), rtol=1e-12)
        assert frame.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-14)
        assert frame.trajectory == ""  # nothing says that they follow one another


def test_molecules_of_different_composition_get_groups_of_their_own(tmp_path):
    images = frames_of_water(2)
    for name in ("NH3", "CH4"):
        atoms = molecule(name)
        atoms.info["energy"] = float(atomic_energy(atoms.numbers).sum())
        atoms.arrays["forces"] = np.zeros((len(atoms), 3))
        images += [atoms, *frames_of_water(1, seed=len(images))]
    report = imported(written(tmp_path / "m.xyz", images), tmp_path / "m.h5md")
    with h5py.File(tmp_path / "m.h5md") as file:
        assert sorted(file["particles"]) == ["trajectory", "trajectory_1", "trajectory_2"]
    assert [len(group) for group in read_back(tmp_path / "m.h5md")] == [4, 1, 1]
    assert report.table.particles == (3, 5)


def test_a_stated_time_step_makes_a_time_series(tmp_path):
    source = written(tmp_path / "w.xyz", frames_of_water())
    report = imported(source, tmp_path / "w.h5md", timestep=0.5)
    assert report.table.consecutive
    assert report.table.timestep == pytest.approx(0.5)
    assert not imported(source, tmp_path / "v.h5md").table.consecutive


def test_the_file_says_where_it_comes_from(tmp_path):
    source = written(tmp_path / "w.xyz", frames_of_water())
    imported(source, tmp_path / "w.h5md", units="eV")
    with h5py.File(tmp_path / "w.h5md") as file:
        notes = json.loads(file["parameters/sciwm/settings"][()])
    assert notes["source"] == "w.xyz"
    assert notes["format"] == "extended XYZ"
    assert notes["fingerprint"] == fingerprint(source)
    assert "energy eV" in notes["units"]
    before = fingerprint(source)
    source.write_text(source.read_text().replace("H ", "D ", 1))
    assert fingerprint(source) != before


def test_an_imported_file_can_be_imported_again(tmp_path):
    imported(written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "a.h5md", timestep=2.0)
    imported(tmp_path / "a.h5md", tmp_path / "b.h5md")
    for one, two in zip(*map(read_back, (tmp_path / "a.h5md", tmp_path / "b.h5md")), strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_allclose(a.positions, b.positions, rtol=1e-14)
            np.testing.assert_allclose(a.forces, b.forces, rtol=1e-14)
            assert a.time == pytest.approx(b.time)


# --- never half a file ---------------------------------------------------------------------------


def test_a_failed_import_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "w.h5md"
    imported(written(tmp_path / "good.xyz", frames_of_water()), target)
    before = target.read_bytes()
    bad = tmp_path / "bad.xyz"
    bad.write_text((tmp_path / "good.xyz").read_text() + "3\nshort\nO 0 0 0\n")
    with pytest.raises(SourceError, match="ends after 1"):
        imported(bad, target)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_import_leaves_nothing_at_the_target(tmp_path, kind):
    source = written(tmp_path / "w.xyz", frames_of_water(200))
    source.write_text(source.read_text() * 150)
    target = tmp_path / "w.h5md"
    target.write_text("an older file")
    # A shell that runs tests in the background passes on that Ctrl-C is ignored.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"from sciwm.cli.import_command import import_; import_({str(source)!r}, to={str(target)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    partial = tmp_path / "w.h5md.partial"
    deadline = time.monotonic() + HUNG
    while not (partial.exists() and partial.stat().st_size > 100_000):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, kind)
    process.wait()
    process.stderr.close()
    assert process.returncode == -kind
    assert target.read_text() == "an older file"
    assert partial.exists() == (kind == signal.SIGKILL)
    # What a killed import left behind does not stand in the way of the next.
    imported(written(tmp_path / "small.xyz", frames_of_water()), target)
    assert not partial.exists()


def test_two_imports_into_one_file_do_not_mix(tmp_path):
    import fcntl

    partial = tmp_path / "w.h5md.partial"
    with partial.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FileExistsError, match="another import is writing"):
            imported(written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "w.h5md")
    imported(tmp_path / "w.xyz", tmp_path / "w.h5md")


def test_a_file_is_not_imported_onto_itself(tmp_path):
    imported(written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "w.h5md")
    with pytest.raises(SourceError, match="both source and target"):
        imported(tmp_path / "w.h5md", tmp_path / "w.h5md")
    with pytest.raises(FileNotFoundError, match="no folder"):
        imported(tmp_path / "w.xyz", tmp_path / "nowhere" / "w.h5md")


# --- bad frames ----------------------------------------------------------------------------------


def spoiled(kind):
    """Six frames, the fourth of which is unusable."""
    images = frames_of_water()
    atoms = images[3]
    if kind == "not finite":
        atoms.arrays["forces"][1, 1] = np.nan
    elif kind == "overlapping atoms":
        atoms.positions[2] = atoms.positions[1] + 0.1
    elif kind == "lacks forces unlike the first frames":
        del atoms.arrays["forces"]
    elif kind == "flat box":
        atoms.cell = np.zeros((3, 3))
        atoms.cell[0, 0] = 9.0
        atoms.pbc = True
    return images


@pytest.mark.parametrize(
    "kind",
    ["not finite", "overlapping atoms", "lacks forces unlike the first frames", "flat box"],
)
def test_a_bad_frame_is_refused_by_number_or_left_out_and_counted(tmp_path, kind):
    source = written(tmp_path / "w.xyz", spoiled(kind))
    if kind == "flat box":
        text = source.read_text().replace('Lattice="9.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0"', "")
        lines = text.splitlines()
        lines[3 * 5 + 1] += ' Lattice="9.0 0 0 0 0 0 0 0 0" pbc="T T T"'
        source.write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError, match="frame 3") as refusal:
        imported(source, tmp_path / "w.h5md")
    assert "--skip_bad true" in str(refusal.value)
    report = imported(source, tmp_path / "w.h5md", skip_bad=True)
    assert report.frames == 5
    assert report.skipped == {kind: 1}
    assert f"left out: 1 frames, {kind}" in str(report)
    assert sum(len(group) for group in read_back(tmp_path / "w.h5md")) == 5


def test_a_source_in_the_wrong_unit_is_refused_until_it_is_told(tmp_path):
    images = frames_of_water()
    for atoms in images:
        atoms.info["energy"] *= 1000
        atoms.arrays["forces"] *= 1000
    source = written(tmp_path / "w.xyz", images)
    with pytest.raises(SourceError, match=r"they look like meV.*--units meV"):
        imported(source, tmp_path / "w.h5md")
    report = imported(source, tmp_path / "w.h5md", units="meV")
    assert report.warnings == []
    assert report.table.fields["energy"].mean == pytest.approx(ENERGY, abs=2)
    # Whoever insists is warned, not stopped.
    insisted = imported(source, tmp_path / "v.h5md", units="energy=eV,force=eV/Å")
    assert any("look like meV" in sentence for sentence in insisted.warnings)


# --- the command ---------------------------------------------------------------------------------


def test_the_command_prints_the_table_or_one_line_of_refusal(tmp_path, capsys):
    source = written(tmp_path / "w.xyz", frames_of_water())
    assert import_(str(source), to=str(tmp_path / "w.h5md")) == 0
    out = capsys.readouterr().out
    assert "6 frames" in out
    assert "forces" in out
    missing = tmp_path / "no.xyz"
    assert main(["import", str(missing), "--to", str(tmp_path / "x.h5md")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"sciwm import: {missing}: does not exist. Check the path\n"


def test_importing_needs_no_torch(tmp_path):
    source = written(tmp_path / "w.xyz", frames_of_water())
    code = (
        "import sys; from sciwm.cli.import_command import import_; "
        f"import_({str(source)!r}, to={str(tmp_path / 'w.h5md')!r}); sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )
