"""A source becomes one H5MD file, complete or not at all, and doubtful data are named."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
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
from sciwm.data.importers.detection import IMPORTERS
from sciwm.data.importers.plausibility import atomic_energy
from sciwm.data.importers.source import COMMON_OPTIONS, ImportOptions, SourceError
from sciwm.data.importers.target import new_file

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


def test_every_frame_knows_its_place_in_the_source(tmp_path):
    images = frames_of_water(6)
    images[1] = images[1][::-1]
    images[3].positions[1] = images[3].positions[2]
    source = written(tmp_path / "a.xyz", images)
    report = imported(source, tmp_path / "a.h5md", skip_bad=True)
    found = [frame for group in read_back(tmp_path / "a.h5md") for frame in group]
    assert [frame.source_frame for frame in found] == [0, 2, 4, 5, 1]
    for frame in found:
        np.testing.assert_allclose(frame.positions, images[frame.source_frame].positions, atol=1e-7)
    assert "source_frame" in str(report.table)
    with h5py.File(tmp_path / "a.h5md", "r+") as file:
        for group in file["observables"].values():
            del group["source_frame"]  # as files were before
    (first, *_), _ = read_back(tmp_path / "a.h5md")
    assert first.source_frame is None


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
        convert(bad, target, progress=False, overwrite=True)
    assert target.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.xyz", "good.xyz", "w.h5md"]


def test_a_file_that_exists_is_replaced_only_where_that_is_asked_for(tmp_path, capsys):
    source, target = written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "w.h5md"
    target.write_text("a year of work")
    assert main(["import", str(source), "--to", str(target)]) == 2
    assert f"{target} exists; pass --overwrite to replace it" in capsys.readouterr().err
    assert target.read_text() == "a year of work"
    assert main(["import", str(source), "--to", str(target), "--overwrite"]) == 0
    assert len(read_back(target)[0]) == 6
    folder = tmp_path / "folder.h5md"
    folder.mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        convert(source, folder, progress=False, overwrite=True)
    link = tmp_path / "link.h5md"
    link.symlink_to(tmp_path / "on a disk that is not mounted.h5md")
    with pytest.raises(FileExistsError, match="exists"):
        imported(source, link)


def test_what_appears_during_an_import_is_not_replaced(tmp_path):
    target = tmp_path / "w.h5md"

    def write():
        with new_file(target, overwrite=False) as partial:
            partial.write_text("new")
            target.write_text("put there meanwhile")

    with pytest.raises(FileExistsError, match="exists"):
        write()
    assert target.read_text() == "put there meanwhile"
    assert [p.name for p in tmp_path.iterdir()] == ["w.h5md"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_import_leaves_nothing_at_the_target(tmp_path, kind):
    source = written(tmp_path / "w.xyz", frames_of_water(200))
    source.write_text(source.read_text() * 150)
    target = tmp_path / "w.h5md"
    target.write_text("an older file")
    # A shell that runs tests in the background passes on that Ctrl-C is ignored.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from sciwm.cli.import_command import import_; "
        f"import_({str(source)!r}, to={str(target)!r}, overwrite=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    others = "w.h5md.*"
    deadline = time.monotonic() + HUNG
    while not any(p.stat().st_size > 100_000 for p in tmp_path.glob("*.partial")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, kind)
    process.wait()
    process.stderr.close()
    assert process.returncode == -kind
    assert target.read_text() == "an older file"
    assert len(list(tmp_path.glob(others))) == (2 if kind == signal.SIGKILL else 0)
    # What a killed import left behind does not stand in the way of the next, which removes it.
    neighbour = tmp_path / "w.h5md.12345678.h5md.12345678.partial"
    neighbour.write_text("of another target")
    small = written(tmp_path / "small.xyz", frames_of_water())
    convert(small, target, progress=False, overwrite=True)
    assert list(tmp_path.glob(others)) == [neighbour]


def test_two_imports_into_one_file_exclude_each_other(tmp_path):
    source, target = written(tmp_path / "w.xyz", frames_of_water()), tmp_path / "w.h5md"
    with new_file(target, overwrite=True) as partial:
        partial.write_text("half a file")
        with pytest.raises(FileExistsError, match=f"another import is writing {target}"):
            convert(source, target, progress=False, overwrite=True)
        assert partial.read_text() == "half a file"
        imported(source, tmp_path / "v.h5md")
    assert target.read_text() == "half a file"
    convert(source, target, progress=False, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.h5md", "w.h5md", "w.xyz"]


def test_only_one_of_many_is_ever_inside(tmp_path):
    target = tmp_path / "w.h5md"
    inside = 0
    most = 0
    done = []

    def attempt(number):
        nonlocal inside, most
        for _ in range(200):
            try:
                with new_file(target, overwrite=True) as partial:
                    inside += 1
                    most = max(most, inside)
                    partial.write_text(str(number))
                    inside -= 1
                done.append(number)
            except FileExistsError:
                pass

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert done
    assert [p.name for p in tmp_path.iterdir()] == ["w.h5md"]


def test_a_lock_that_its_holder_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    target = tmp_path / "w.h5md"
    lock = tmp_path / "w.h5md.importing"
    taken = fcntl.flock

    def late(descriptor, operation):
        taken(descriptor, operation)
        monkeypatch.setattr(fcntl, "flock", taken)
        lock.unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    # Gone at this moment or the next: to ask whether it is there says nothing.
    monkeypatch.setattr(Path, "exists", lambda path: path == lock or path.is_file())
    with new_file(target, overwrite=False) as partial:
        assert lock.exists()
        partial.write_text("whole")
    assert target.read_text() == "whole"


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


@pytest.mark.parametrize("importer", IMPORTERS, ids=lambda importer: importer.name)
def test_an_importer_accepts_only_options_that_there_are(importer):
    assert importer.accepts < ImportOptions.__dataclass_fields__.keys()
    assert not importer.accepts & COMMON_OPTIONS


@pytest.mark.parametrize(
    ("option", "value"),
    [("topology", Path("water.pdb")), ("elements", "OHH"), ("properties", {"dipole": "mu"})],
)
def test_an_option_that_the_format_has_no_use_for_is_refused(tmp_path, option, value):
    source = tmp_path / "a.traj"
    ase.io.write(source, frames_of_water(), format="traj")
    assert imported(source, tmp_path / "sound.h5md").frames == 6
    with pytest.raises(SourceError, match=f"ASE, which has no use for --{option}"):
        imported(source, tmp_path / "a.h5md", **{option: value})


def test_elements_named_twice_are_refused(tmp_path):
    source = FORMATS / "xtc" / "cell_shapes.xtc"
    if not source.exists():
        pytest.skip("needs the reference data md_formats")
    with pytest.raises(SourceError, match="Pass one of --topology and --elements"):
        imported(source, tmp_path / "a.h5md", topology=source, elements="H10")


def test_a_label_asked_for_by_a_name_that_no_frame_has_is_refused(tmp_path):
    source = tmp_path / "molecules.h5"
    with h5py.File(source, "w") as file:
        group = file.create_group("water")
        group["conformations"] = WATER.positions[None]
        group["atomic_numbers"] = WATER.numbers
        group["dft_total_energy"] = [-76.0]
    assert imported(source, tmp_path / "sound.h5md").table.fields["energy"].present == 1
    with pytest.raises(SourceError, match="no frame holds 'dft_energy', wanted as energy"):
        imported(source, tmp_path / "a.h5md", energy_key="dft_energy")


def test_where_nothing_is_left_the_error_counts_what_was_left_out(tmp_path):
    images = frames_of_water(3)
    for atoms in images:
        atoms.positions[1] = atoms.positions[2]
    source = written(tmp_path / "a.xyz", images)
    with pytest.raises(SourceError, match="left out were: 3 frames, overlapping atoms"):
        imported(source, tmp_path / "a.h5md", skip_bad=True)


def test_a_stated_time_step_counts_more_than_the_times_of_the_file(tmp_path):
    source = FORMATS / "trr" / "water.trr"
    if not source.exists():
        pytest.skip("needs the reference data md_formats")
    elements = "(OHH)99"
    own = imported(source, tmp_path / "own.h5md", elements=elements).table.timestep
    told = imported(source, tmp_path / "told.h5md", elements=elements, timestep=0.5).table.timestep
    (frames,) = read_back(tmp_path / "told.h5md")
    assert [frame.time for frame in frames] == [0.5 * frame.step for frame in frames]
    assert told != own


def test_the_help_names_the_units_that_the_file_holds(tmp_path, capsys):
    imported(written(tmp_path / "a.xyz", frames_of_water()), tmp_path / "a.h5md", timestep=1.0)
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    promised = " ".join(capsys.readouterr().out.split()).replace("Å", "Angstrom")
    (sentence,) = [one for one in promised.split(".") if "The new file states its units" in one]
    elements = {"particles": ("position/value", "position/time"), "observables": ("energy/value",)}
    with h5py.File(tmp_path / "a.h5md") as file:
        for home, names in elements.items():
            for name in names:
                unit = file[
                    f"{home}/trajectory/{name.replace('energy', 'potential_energy')}"
                ].attrs["unit"]
                assert unit.replace(" mol-1", "/mol") in sentence
