"""LAMMPS dumps: every kind of coordinate and box gives the same atoms, and broken dumps are refused."""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from sciwm.core.units import KCAL_PER_MOL
from sciwm.data.importers.lammps_dump import LammpsDump
from sciwm.data.importers.source import ImportOptions, SourceError

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "md_formats"

CELL = np.array([[10.0, 0, 0], [2.0, 9.0, 0], [-1.5, 1.0, 8.0]])
ORIGIN = np.array([-1.0, 2.0, 0.5])
RNG = np.random.default_rng(1)
FRACTIONAL = RNG.uniform(size=(7, 3))
IMAGES = RNG.integers(-2, 3, size=(7, 3))
VELOCITIES = RNG.normal(size=(7, 3))
TYPES = np.array([1, 2, 1, 2, 2, 1, 1])
WRAPPED = ORIGIN + FRACTIONAL @ CELL
UNWRAPPED = WRAPPED + IMAGES @ CELL

COLUMNS = {
    ("x", "y", "z"): WRAPPED,
    ("xs", "ys", "zs"): FRACTIONAL,
    ("xu", "yu", "zu"): UNWRAPPED,
    ("xsu", "ysu", "zsu"): FRACTIONAL + IMAGES,
    ("ix", "iy", "iz"): IMAGES,
    ("vx", "vy", "vz"): VELOCITIES,
}


def sheared_bounds():
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = CELL
    low, high = ORIGIN, ORIGIN + np.array([lx, ly, lz])
    return (
        "ITEM: BOX BOUNDS xy xz yz pp pp pp\n"
        f"{low[0] + min(0, xy, xz, xy + xz)} {high[0] + max(0, xy, xz, xy + xz)} {xy}\n"
        f"{low[1] + min(0, yz)} {high[1] + max(0, yz)} {xz}\n"
        f"{low[2]} {high[2]} {yz}\n"
    )


def general_bounds():
    rows = "\n".join(" ".join(map(str, [*row, o])) for row, o in zip(CELL, ORIGIN, strict=True))
    return f"ITEM: BOX BOUNDS abc origin pp pp pp\n{rows}\n"


def dump(path, *groups, bounds=None, step=100, head="", names=("id", "type")):
    """One frame, its atoms in shuffled order, with the columns of these groups."""
    order = np.random.default_rng(step).permutation(7)
    labels = {"id": np.arange(1, 8), "type": TYPES, "element": np.array(["Na", "Cl"])[TYPES - 1]}
    lines = [
        " ".join(
            [
                *(str(labels[n][k]) for n in names),
                *(repr(float(v)) for g in groups for v in COLUMNS[g][k]),
            ]
        )
        for k in order
    ]
    header = " ".join([*names, *(name for group in groups for name in group)])
    text = (
        f"{head}ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n7\n{bounds or sheared_bounds()}"
        f"ITEM: ATOMS {header}\n" + "\n".join(lines) + "\n"
    )
    path.write_text(path.read_text() + text if path.exists() else text)
    return path


def read(path, **options):
    options = {"units": "metal", "elements": "Na,Cl"} | options
    return list(LammpsDump().frames(path, ImportOptions(**options)))


X, XS, XU, XSU = (("x", "y", "z"), ("xs", "ys", "zs"), ("xu", "yu", "zu"), ("xsu", "ysu", "zsu"))
IX, VX = ("ix", "iy", "iz"), ("vx", "vy", "vz")


@pytest.mark.parametrize("bounds", [sheared_bounds, general_bounds])
@pytest.mark.parametrize("groups", [(X, IX), (XS, IX), (XU,), (XSU,), (XSU, X)])
def test_every_kind_of_coordinate_gives_the_same_continuous_path(tmp_path, groups, bounds):
    (frame,) = read(dump(tmp_path / "a.lammpstrj", *groups, bounds=bounds()))
    np.testing.assert_allclose(frame.cell, CELL, atol=1e-12)
    expected = WRAPPED if groups == (XSU, X) else UNWRAPPED
    np.testing.assert_allclose(frame.unwrapped(), expected, atol=1e-12)
    assert frame.numbers.tolist() == np.array([11, 17])[TYPES - 1].tolist()


def test_the_path_check_notices_wrapped_positions(tmp_path):
    (frame,) = read(dump(tmp_path / "a.lammpstrj", X))
    assert frame.images is None
    assert not np.allclose(frame.unwrapped(), UNWRAPPED)


def test_a_sheared_dump_means_what_ase_reads(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", X, VX, names=("id", "type", "element"))
    (frame,) = read(path)
    atoms = ase.io.read(path, format="lammps-dump-text")
    np.testing.assert_allclose(frame.cell, np.asarray(atoms.cell), atol=1e-6)
    # ASE moves the corner of the box into the origin.
    offsets = frame.positions - atoms.positions
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[0], (7, 3)), atol=1e-6)
    assert (frame.numbers == atoms.numbers).all()


def test_the_users_elements_count_more_than_those_of_the_dump(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", X, names=("id", "type", "element"))
    assert set(read(path, elements=None)[0].numbers) == {11, 17}
    assert set(read(path, elements="K,Br")[0].numbers) == {19, 35}


def test_units_follow_the_style_of_the_run(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", X, VX)
    np.testing.assert_allclose(read(path)[0].velocities, VELOCITIES / 1000)  # Å/ps
    np.testing.assert_allclose(read(path, units="real")[0].velocities, VELOCITIES)
    assert LammpsDump().units(path, ImportOptions(units="real")).factor("force") == KCAL_PER_MOL
    np.testing.assert_allclose(read(path, units="si")[0].positions, WRAPPED * 1e10)


def test_a_dump_that_states_its_units_needs_no_option(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", X, VX, head="ITEM: UNITS\nmetal\n")
    np.testing.assert_allclose(read(path, units=None)[0].velocities, VELOCITIES / 1000)
    with pytest.raises(SourceError, match="--units with one of metal, real"):
        read(dump(tmp_path / "b.lammpstrj", X), units=None)


def test_reduced_units_keep_types_and_numbers(tmp_path):
    (frame,) = read(dump(tmp_path / "a.lammpstrj", X, VX), units="lj", elements=None)
    assert (frame.numbers == TYPES).all()
    np.testing.assert_array_equal(frame.velocities, VELOCITIES)


def test_types_without_elements_are_refused_in_physical_units(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", X)
    with pytest.raises(SourceError, match=r"types but no elements.*--elements Na,Cl"):
        read(path, elements=None)
    with pytest.raises(SourceError, match="from 1 to 2, but elements 'Na' names 1"):
        read(path, elements="Na")
    assert read(path, elements="Na4Cl3")[0].numbers.tolist() == [11] * 4 + [17] * 3


def test_a_dump_without_types_is_not_told_to_name_their_elements(tmp_path):
    path = tmp_path / "run.lammpstrj"
    path.write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
        "ITEM: ATOMS id x y z\n1 0 0 0\n2 1 1 1\n"
    )
    with pytest.raises(SourceError, match="neither elements nor particle types") as refusal:
        read(path, elements=None)
    assert "per type" not in str(refusal.value)
    with pytest.raises(SourceError, match=r"'Na,Cl' names one per particle type, .* no types"):
        read(path)
    # What is suggested works.
    assert "a formula in the order of the ids" in str(refusal.value)
    assert read(path, elements="NaCl")[0].numbers.tolist() == [11, 17]


def test_steps_become_times(tmp_path):
    path = tmp_path / "a.lammpstrj"
    for step in (0, 10, 20):
        dump(path, X, step=step)
    assert [frame.time for frame in read(path, timestep=0.5)] == [0, 5, 10]
    assert [frame.time for frame in read(path)] == [None] * 3
    timed = dump(tmp_path / "b.lammpstrj", X, head="ITEM: TIME\n2.5\n")
    assert read(timed)[0].time == pytest.approx(2500)  # ps


def test_another_set_of_particles_starts_another_trajectory(tmp_path):
    path = dump(tmp_path / "a.lammpstrj", X)
    dump(path, X, step=200)
    text = dump(tmp_path / "b.lammpstrj", X, step=300).read_text()
    shifted = text.replace("\n7 ", "\n99 ")
    path.write_text(path.read_text() + shifted)
    keys = [frame.trajectory for frame in read(path)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("name", ["nacl", "polymer", "properties", "detect_best_pos_repr"])
def test_real_dumps_hold_what_plain_parsing_finds(name):
    path = DATA / "lammps" / f"{name}.lammpstrj"
    if not path.exists():
        pytest.skip(f"needs the reference data {path.name}")
    frames = read(path, units="lj", elements=None)
    lines = path.read_text().splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS")]
    assert len(frames) == len(starts)
    for frame, start in zip(frames, starts, strict=True):
        names = lines[start].split()[2:]
        table = np.array([row.split() for row in lines[start + 1 : start + 1 + len(frame)]], float)
        if "id" in names:
            table = table[np.argsort(table[:, names.index("id")])]
        kind = "xu" if {"xu", "yu", "zu"} <= set(names) else "x"
        if not {kind, kind.replace("x", "y"), kind.replace("x", "z")} <= set(names):
            continue
        assert frame.positions[:, 0] == pytest.approx(table[:, names.index(kind)])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("\n7 ", "\n6 "), "appears twice"),
        (("NUMBER OF ATOMS\n7", "NUMBER OF ATOMS\n8"), "fewer lines follow"),
        (("NUMBER OF ATOMS\n7", "NUMBER OF ATOMS\nseven"), "expected 1 number"),
        (("\n3 1 ", "\n3 one "), "does not fit the columns"),
        (("\n3 1 ", "\n3 1 1 "), "does not fit the columns"),
        (("xy xz yz ", ""), "expected 2 number"),
        (("ITEM: BOX", "ITEM: BOXES"), "unknown item 'BOXES'"),
        (("ITEM: ATOMS id type x y z", "ITEM: ATOMS id type a b c"), "hold no positions"),
        (("ITEM: NUMBER OF ATOMS\n7\n", ""), "comes before"),
    ],
)
def test_a_broken_dump_is_refused_with_its_line(tmp_path, change, reason):
    path = dump(tmp_path / "a.lammpstrj", X)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(SourceError, match=r"frame 0 \(line \d+\)") as refusal:
        read(path)
    assert reason in str(refusal.value)
