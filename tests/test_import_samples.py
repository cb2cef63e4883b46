"""Every sample file of md_formats is imported whole, or refused with place and reason."""

from itertools import islice
from pathlib import Path

import pytest

from sciwm.data.importers.convert import convert
from sciwm.data.importers.detection import detect
from sciwm.data.importers.plausibility import doubts
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.data.importers.source_units import SourceUnits

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
FORMATS = DATA / "md_formats"


def imported(source, to, **options):
    return convert(source, to, ImportOptions(**options), progress=False)


SOUND = {
    "dcd/fixed-atoms.dcd": ({"elements": "H12"}, 10),
    "dcd/mrmd_h2so4-64bit-be.dcd": ({"elements": "H2SO4"}, 50),
    "dcd/water.dcd": ({"elements": "(OHH)99"}, 100),
    "gro/ubiquitin.gro": ({}, 1),
    "lammps/detect_best_pos_repr.lammpstrj": ({"units": "lj"}, 5),
    "lammps/nacl.lammpstrj": ({"units": "real", "elements": "Na256Cl256"}, 6),
    "lammps/polymer.lammpstrj": ({"units": "lj"}, 42),
    "lammps/properties.lammpstrj": ({"units": "lj"}, 4),
    "netcdf/no-cell.nc": ({"elements": "He1989"}, 10),
    "netcdf/water.nc": ({"elements": "(OHH)99"}, 100),
    "tinker/water.arc": ({}, 1),
    "trr/cell_shapes_d.trr": ({"elements": "H10"}, 3),
    "trr/water.trr": ({"elements": "(OHH)99"}, 100),
    "xtc/cell_shapes.xtc": ({"elements": "H10"}, 3),
    "xyz/extended.xyz": ({"skip_bad": True}, 2),  # the third frame stacks its atoms
    "xyz/trajectory.xyz": ({}, 2),
    "xyz/water.9.xyz.gz": ({}, 100),
}
REFUSED = {
    "dcd/triclinic-namd.dcd": ({"elements": "He9999"}, "frame 0: atoms .* Å apart"),
    "dcd/water.dcd": ({}, "--topology system.pdb"),
    "lammps-data/data.body": ({}, "no format that can be recognised"),
    "lammps/nacl.lammpstrj": ({}, "--units with one of metal"),
    "xyz/extended.xyz": ({}, "frame 2: atoms 0 and 4 are 0 Å apart"),
    "tng/water.tng": ({"elements": "(OHH)99"}, "pytng"),
    "lammps_bad/atom-duplicated-id.lammpstrj": ({"units": "lj"}, r"frame 0 \(line 11\): .* twice"),
    "lammps_bad/atom-not-enough-lines.lammpstrj": ({"units": "lj"}, "frame 0 .*fewer lines"),
    "lammps_bad/atom-too-many-fields.lammpstrj": ({"units": "lj"}, r"line 10\).*does not fit"),
    "lammps_bad/box-not-numbers.lammpstrj": ({"units": "lj"}, r"line 6\).*'DUMMY'"),
    "lammps_bad/box-wrong-size.lammpstrj": ({"units": "lj"}, r"line 6\).*expected 3 number"),
    "lammps_bad/items-after-atoms.lammpstrj": ({"units": "lj"}, "ends inside a frame"),
    "lammps_bad/timestep-no-item.lammpstrj": ({"units": "lj"}, r"line 1\).*'DUMMY'"),
    "xyz_bad/extended-bad-properties.xyz": ({}, r"line 3\).*'H' is not a value of column 'pos'"),
    "xyz_bad/extended.xyz": ({}, r"line 3\).*4 fields where the header has 5"),
}


def sample(name):
    path = FORMATS / name
    if not path.exists():
        pytest.skip(f"needs the reference data {name}")
    return path


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_sample_is_imported_whole(tmp_path, name):
    options, count = SOUND[name]
    report = imported(sample(name), tmp_path / "x.h5md", **options)
    assert report.frames == count == report.table.frames


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_or_incomplete_sample_is_refused_with_place_and_reason(tmp_path, name):
    options, reason = REFUSED[name]
    with pytest.raises(SourceError, match=reason) as refusal:
        imported(sample(name), tmp_path / "x.h5md", **options)
    assert Path(name).name in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_every_sample_is_in_one_of_the_two_lists():
    if not FORMATS.exists():
        pytest.skip("needs the reference data md_formats")
    files = {str(p.relative_to(FORMATS)) for p in FORMATS.rglob("*") if p.is_file()}
    assert {name for name in files if "/." not in name} == {*SOUND, *REFUSED}


@pytest.mark.parametrize("part", range(9))
def test_every_frame_of_the_broken_xyz_sample_is_broken_by_itself(tmp_path, part):
    lines = sample("xyz_bad/extended.xyz").read_text().splitlines()[3 * part : 3 * part + 3]
    path = tmp_path / "part.xyz"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SourceError):
        imported(path, tmp_path / "x.h5md")


@pytest.mark.parametrize("part", range(5))
def test_every_frame_with_bad_properties_is_broken_by_itself(tmp_path, part):
    text = sample("xyz_bad/extended-bad-properties.xyz").read_text().splitlines()
    path = tmp_path / "part.xyz"
    path.write_text("\n".join(text[3 * part : 3 * part + 3]) + "\n")
    with pytest.raises(SourceError):
        imported(path, tmp_path / "x.h5md")


def test_the_aspirin_sample_in_millielectronvolt_is_named():
    path = DATA / "rmd17" / "aspirin_meV.xyz"
    if not path.exists():
        pytest.skip("needs the reference data rmd17")
    frames = list(islice(detect(path).frames(path, ImportOptions()), 8))
    assert "they look like meV" in doubts(frames, SourceUnits())[0].sentence
