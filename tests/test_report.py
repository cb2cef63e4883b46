"""The report compares motions correctly, and its page is whole, honest and needs no network."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from ase import Atoms
from conftest import HUNG
from PIL import Image
from scipy.spatial.transform import Rotation

from sciwm.cli import main
from sciwm.core.units import REDUCED
from sciwm.report import appearance, page, viewer
from sciwm.report.alignment import separation
from sciwm.report.comparison import MotionComparison, conserved_by, read_motion, shared_area
from sciwm.report.coordinates import Coordinate, telling_coordinates
from sciwm.report.numerals import plain, plus_minus
from sciwm.report.overview import overview
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.observables.observable import Observable

ROOT = Path(__file__).parents[1]
TRUE = ROOT / "datasets" / "ethanol_xtb" / "ethanol_nve.h5md"

CONFIG = """
data:
  class_path: sciwm.data.FrameData
  init_args: {{train: {train}, valid: 20}}
task:
  class_path: sciwm.training.ForceTask
  init_args:
    model:
      class_path: sciwm.models.ForceField
      init_args:
        encoder: {{cutoff: 4.0, channels: 8, layers: 1}}
        reference_energies: {{H: -10.707211, C: -48.798080, O: -102.521808}}
max_steps: 60
validate_every: 30
"""


@pytest.fixture(scope="module")
def ethanol():
    return read_motion(str(TRUE))


@pytest.fixture(scope="module")
def turning(ethanol):
    """The first frame of ethanol and 19 copies, each turned and moved."""
    rotations = Rotation.random(20, random_state=0).as_matrix()
    start = ethanol.positions[0] - ethanol.positions[0].mean(axis=0)
    turned = start @ rotations.swapaxes(1, 2) + np.arange(20)[:, None, None]
    return np.broadcast_to(start, turned.shape), turned


# Paths


def test_turning_and_moving_a_molecule_does_not_separate_it_from_itself(turning):
    # The square root of a cancelled sum leaves half the digits of float64.
    assert separation(*turning, superpose=True).max() < 1e-6


def test_without_superposition_it_does(turning):
    assert separation(*turning, superpose=False).max() > 1.0


def test_a_mirror_image_is_another_molecule(turning):
    start, turned = turning
    assert separation(start, turned * [1, 1, -1], superpose=True).min() > 0.1


def test_separation_is_what_scipy_finds_by_aligning_vectors(ethanol):
    first, second = ethanol.positions[:50], ethanol.positions[500:550]
    found = separation(first, second, superpose=True)
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        _, rssd = Rotation.align_vectors(a - a.mean(axis=0), b - b.mean(axis=0))
        assert found[k] == pytest.approx(rssd / np.sqrt(len(a)), rel=1e-6)


def test_a_motion_beside_itself_stays_together_to_the_end(ethanol):
    same = MotionComparison.of(ethanol, ethanol)
    assert same.same_start
    assert not same.parted
    assert same.separation.max() < 1e-6
    assert same.overlap == pytest.approx(1.0)


def test_paths_part_when_one_of_them_stops(ethanol):
    stopped = ethanol.positions.copy()
    stopped[300:] = stopped[300]
    comparison = MotionComparison.of(ethanol, replace(ethanol, positions=stopped))
    assert comparison.parted
    assert 300 < comparison.together < 350


def test_a_motion_from_elsewhere_is_no_path_to_compare(ethanol):
    later = replace(ethanol, positions=ethanol.positions[::-1].copy())
    assert not MotionComparison.of(ethanol, later).same_start


def test_other_velocities_are_another_start(ethanol):
    thermal = replace(ethanol, velocities=-ethanol.velocities)
    assert not MotionComparison.of(ethanol, thermal).same_start


def test_motions_of_different_length_and_spacing_are_compared_where_they_meet(ethanol):
    rare = Motion(ethanol.numbers, ethanol.masses, ethanol.positions[:400:4], timestep=4.0)
    comparison = MotionComparison.of(ethanol, rare)
    assert len(comparison.true) == 100
    assert comparison.times[-1] == 396.0
    assert comparison.separation.max() < 1e-6


def test_frames_that_never_meet_are_refused(ethanol):
    with pytest.raises(ValueError, match="never meet"):
        MotionComparison.of(ethanol, replace(ethanol, timestep=1.5))


def test_other_particles_are_refused(ethanol):
    with pytest.raises(ValueError, match="particles"):
        MotionComparison.of(ethanol, replace(ethanol, numbers=np.roll(ethanol.numbers, 1)))


# Statistics


def springs(wavenumber):
    """Two atoms on a spring that swings along x, 1 fs between frames."""
    phase = 2 * np.pi * wavenumber * 2.99792458e-5 * np.arange(2000.0)
    positions = np.zeros((2000, 2, 3))
    positions[:, 1, 0] = 1.0 + 0.05 * np.sin(phase)
    positions[:, 0, 0] = -0.05 * np.sin(phase)
    velocities = np.gradient(positions, axis=0)
    return Motion(np.array([6, 6]), np.array([12.0, 12.0]), positions, 1.0, velocities)


def test_spectra_of_different_springs_share_nothing_and_of_equal_ones_everything():
    same = MotionComparison.of(springs(1000.0), springs(1000.0))
    other = MotionComparison.of(springs(1000.0), springs(1500.0))
    assert same.overlap == pytest.approx(1.0)
    assert other.overlap < 0.01
    peak = same.spectra["true"].x[np.argmax(same.spectra["true"].value)]
    assert peak == pytest.approx(1000.0, abs=17.0)  # one bin


def test_shared_area_of_shifted_boxes_is_their_overlap():
    x = np.arange(100.0)

    def box(start):
        density = np.where((x >= start) & (x < start + 20), 0.05, 0.0)
        return Observable("box", density, np.zeros(100), "", x, "x", "")

    assert shared_area(box(10), box(15)) == pytest.approx(0.75)


def test_conserved_momenta_are_recognised(ethanol):
    assert conserved_by(ethanol) == "momentum and angular momentum"
    drifting = replace(ethanol, velocities=ethanol.velocities + 0.01)
    assert conserved_by(drifting) == "nothing"
    spinning = np.cross(ethanol.without_drift().positions, [0.0, 0.0, 0.002])
    assert conserved_by(replace(ethanol, velocities=ethanol.velocities + spinning)) == "momentum"


def test_statistics_carry_errors_and_units(ethanol):
    rows = {
        name: (true, unit)
        for name, true, _, unit in MotionComparison.of(ethanol, ethanol).statistics()
    }
    assert "temperature" in rows
    assert "±" in rows["temperature"][0]
    assert rows["temperature"][1] == "K"
    assert rows["energy drift"][1] == "meV/atom/ps"


# Coordinates


def test_dihedrals_agree_with_ase(ethanol):
    chain = Coordinate((0, 1, 2, 8), "C-C-O-H dihedral (atoms 0-1-2-8)")
    found = chain.values(ethanol)[::50]
    for k, positions in enumerate(ethanol.positions[::50]):
        reference = Atoms(ethanol.numbers, positions).get_dihedral(0, 1, 2, 8)
        assert (found[k] - reference + 180) % 360 == pytest.approx(180, abs=1e-8)


def test_a_mirrored_molecule_turns_the_other_way(ethanol):
    chain = Coordinate((0, 1, 2, 8), "")
    mirrored = replace(ethanol, positions=ethanol.positions * [1, 1, -1])
    assert np.allclose(chain.values(mirrored), -chain.values(ethanol))


def test_ethanol_is_told_by_its_four_kinds_of_bond_and_the_turn_of_its_hydroxyl(ethanol):
    names = [coordinate.title for coordinate in telling_coordinates(ethanol)]
    assert names == ["C–O bond", "C–C bond", "O–H bond", "C–H bond", "C–C–O–H dihedral"]


def test_particles_without_chemistry_have_no_bonds(ethanol):
    reduced = replace(ethanol, units=REDUCED)
    assert telling_coordinates(reduced) == []
    assert len(appearance.sticks(reduced)) == 0


# The animated view


def scene(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1])


def test_positions_travel_through_the_page_to_a_thousandth_of_an_angstrom(ethanol):
    found = scene(viewer.viewer({"true": ethanol}))
    whole = np.frombuffer(base64.b64decode(found["positions"][0]), dtype="<i2")
    places = whole.reshape(ethanol.positions.shape) * found["unit"]
    assert np.abs(places - ethanol.without_drift().positions).max() < 1e-3
    assert len(found["bonds"]) == 8
    assert found["times"][-1] == 999


def test_long_trajectories_are_thinned_out_and_huge_ones_refused(ethanol):
    long = replace(
        ethanol, positions=np.tile(ethanol.positions, (30, 1, 1)), velocities=None, energy=None
    )
    found = scene(viewer.viewer({"true": long, "imagined": long}))
    assert len(found["times"]) * 9 * 3 * 2 <= viewer.LARGEST
    many = Motion(np.full(200_000, 6), np.full(200_000, 12.0), np.zeros((3, 200_000, 3)), 1.0)
    with pytest.raises(ValueError, match="too many"):
        viewer.viewer({"true": many})


def test_a_box_is_drawn_and_particles_folded_into_it():
    positions = np.array([[[0.0, 0.0, 0.0], [5.5, 0.0, 0.0]]])
    motion = Motion(
        np.array([18, 18]), np.array([40.0, 40.0]), positions, 1.0,
        cell=np.diag([4.0, 5.0, 6.0]), pbc=np.ones(3, dtype=bool),
    )  # fmt: skip
    found = scene(viewer.viewer({"true": motion}))
    whole = np.frombuffer(base64.b64decode(found["positions"][0]), dtype="<i2") * found["unit"]
    assert whole.reshape(2, 3)[1, 0] == pytest.approx(1.5, abs=1e-3)
    lengths = sorted(np.linalg.norm(np.subtract(a, b)) for a, b in found["edges"])
    assert lengths == pytest.approx([4.0] * 4 + [5.0] * 4 + [6.0] * 4)


# The page


class Anatomy(HTMLParser):
    """What a page consists of: unbalanced tags, addresses it names, pictures it holds."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "hr"})

    def __init__(self, html):
        super().__init__()
        self.open, self.faults, self.addresses, self.pictures = [], [], [], []
        self.feed(html)
        self.faults += [f"<{tag}> is never closed" for tag in self.open]
        self.addresses += re.findall(r"url\(([^)]*)\)", html)
        self.addresses += re.findall(r"@import\s+(\S+)", html)
        self.addresses += re.findall(r"\b(?:https?|ftp|wss?):[^\s\"'<]*", html)

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "action", "poster", "data", "srcset"):
                self.addresses.append(value)
            if name == "src" and tag == "img":
                self.pictures.append(value)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes what is not open")

    @property
    def outside(self):
        return [address for address in self.addresses if not address.startswith("data:")]

    def broken_pictures(self):
        broken = []
        for address in self.pictures:
            kind, data = re.fullmatch(r"data:(image/[a-z+]+);base64,(.*)", address).groups()
            try:
                content = base64.b64decode(data, validate=True)
                if kind == "image/png":
                    Image.open(io.BytesIO(content)).verify()
                else:
                    ElementTree.fromstring(content)
            except (ValueError, OSError, SyntaxError):
                broken.append(address[:60])
        return broken


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small model of ethanol, trained for a moment, evaluated, and let run."""
    folder = tmp_path_factory.mktemp("runs")
    train = folder / "train.h5md"
    source = ROOT / "datasets" / "ethanol_xtb" / "ethanol_400K.extxyz"
    assert main(["import", str(source), "--to", str(train)]) == 0
    config = folder / "small.yaml"
    config.write_text(CONFIG.format(train=train))
    # In a process of its own, because Lightning changes global settings.
    command = [Path(sys.executable).with_name("sciwm"), "train", config, "--folder", folder]
    subprocess.run(command, check=True, capture_output=True)
    made = folder / "small"
    assert main(["evaluate", str(made), "--data", str(TRUE)]) == 0
    imagined = str(made / "imagined.h5md")
    arguments = ["--frames", "0", "--dt", "0.5fs", "--every", "2", "--out", imagined]
    assert main(["simulate", str(made), str(TRUE), "100fs", *arguments]) == 0
    return made


@pytest.fixture(scope="module")
def report(run):
    arguments = ["--true", str(TRUE), "--imagined", str(run / "imagined.h5md")]
    assert main(["report", str(run), *arguments]) == 0
    return run / "report.html"


def test_the_page_is_well_formed_and_names_nothing_outside_itself(report):
    anatomy = Anatomy(report.read_text())
    assert anatomy.faults == []
    assert anatomy.outside == []


def test_the_page_holds_every_picture(report):
    anatomy = Anatomy(report.read_text())
    # Paths, parting, spectrum, energy, learning curve; two parities, errors, species.
    assert len(anatomy.pictures) == 9
    assert anatomy.broken_pictures() == []


def test_long_strides_lie_beside_the_truth(run, report, tmp_path, capsys):
    out, made = tmp_path / "page.html", str(run / "strides.h5md")
    cheap = ["--cheap", str(run), "--cheap_steps", "4", "--dt", "2fs", "--every", "1"]
    assert (
        main(["simulate", str(run), str(TRUE), "100fs", "--frames", "0", "--out", made, *cheap])
        == 0
    )
    command = ["report", str(run), "--strides", made, "--out", str(out)]
    assert main(command) == 2
    assert "--true" in capsys.readouterr().err
    assert main([*command, "--true", str(TRUE)]) == 0
    anatomy = Anatomy(out.read_text())
    assert (anatomy.faults, anatomy.outside, anatomy.broken_pictures()) == ([], [], [])
    # Paths, parting and energy beside those of the page without any motion.
    assert len(anatomy.pictures) == 5 + 3
    assert "They are of 2 fs, by RESPA." in out.read_text()


@pytest.mark.parametrize(
    ("fault", "sign"),
    [
        ("<p><b>text</p></b>", "faults"),
        ("<div>", "faults"),
        ('<script src="https://cdn.example/x.js"></script>', "outside"),
        ("<style>@import 'theme.css';</style>", "outside"),
        ("<style>p { background: url(paper.png) }</style>", "outside"),
        ('<img src="plot.png">', "outside"),
    ],
)
def test_the_anatomy_finds_what_would_break_a_page(fault, sign):
    assert getattr(Anatomy(f"<html><body>{fault}</body></html>"), sign)


def test_the_anatomy_finds_a_damaged_picture():
    assert Anatomy('<img src="data:image/png;base64,AAAA">').broken_pictures()


def test_the_page_states_errors_beside_null_models_and_says_what_is_missing(run, report):
    text = report.read_text()
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())["metrics"]
    assert f"{plain(metrics['force rmse']['value'])} meV/Å" in text
    assert plain(metrics["force rmse"]["null"]) in text
    assert "Not checked yet" in text
    assert f"sciwm check {run}" in text


def test_a_run_alone_has_a_page_that_says_how_to_go_on(run, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(run, bare, ignore=shutil.ignore_patterns("evaluation", "*.h5md*", "*.html"))
    assert main(["report", str(bare), "--out", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "Not measured yet" in text
    assert "<canvas" not in text
    assert Anatomy(text).faults == []


def test_evaluation_on_training_data_is_called_that(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    metrics = json.loads((copy / "evaluation" / "metrics.json").read_text())
    said = "say nothing about new ones"
    assert main(["report", str(copy)]) == 0
    assert said not in (copy / "report.html").read_text()
    metrics["worst frames"][0]["file"] = str(run.parent / "train.h5md")
    (copy / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    assert main(["report", str(copy)]) == 0
    assert said in (copy / "report.html").read_text()


def test_text_from_files_cannot_become_markup():
    hostile = '<script>alert("&")</script>'
    sheet = page.Page(hostile, hostile)
    sheet.section(hostile, page.paragraph(hostile), page.table([hostile], [[hostile]]))
    sheet.add(page.tiles([(hostile, hostile, hostile)]), page.commands([hostile]))
    assert "<script" not in sheet.html()
    assert Anatomy(sheet.html()).faults == []


def test_a_true_motion_without_an_imagined_one_is_refused_with_the_remedy(run, capsys):
    assert main(["report", str(run), "--true", str(TRUE)]) == 2
    assert "sciwm simulate" in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "model.pt" in capsys.readouterr().err


def test_the_overview_is_a_picture_of_moderate_size(report):
    picture = report.with_name("overview.png")
    assert picture.stat().st_size < 250_000
    with Image.open(picture) as image:
        assert image.width > 900


def test_the_overview_refuses_what_it_cannot_draw(ethanol):
    short = MotionComparison.of(ethanol, replace(ethanol, timestep=100.0))
    with pytest.raises(ValueError, match="64 frames"):
        overview(short)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (float("inf"), "-"), (0.0, "0"), (5.0, "5"), (16.94, "16.9"), (798.2, "798"),
     (1056.4, "1,056"), (0.2762, "0.276"), (1.8e-14, "1.8e-14")],
)  # fmt: skip
def test_numbers_are_written_as_people_read_them(value, text):
    assert plain(value) == text


def test_errors_of_means_are_given_two_digits():
    assert plus_minus(334.71, 4.23) == "334.7 ± 4.2"
    assert plus_minus(1.41744, 0.00251) == "1.4174 ± 0.0025"
    assert plus_minus(7e-9, 1e-7) == "7.0e-09 ± 1e-07"
    assert plus_minus(2.0, float("nan")) == "2"


# In a browser


def photographed(path, tmp_path):
    """What a headless browser draws of a page, and what its console says."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on this machine to draw the page with")
    picture = tmp_path / "page.png"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-background-networking", "--enable-logging=stderr",
            "--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1100,1400", f"--screenshot={picture}", path.as_uri(),
        ],
        capture_output=True, timeout=HUNG, check=True, text=True, errors="replace",
    )  # fmt: skip
    with Image.open(picture) as image:
        colours = np.asarray(image.convert("RGB")).astype(int)
    return colours, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def red_columns(colours):
    """(K,) columns of the picture with the red of oxygen in them."""
    red, green, blue = np.moveaxis(colours, -1, 0)
    return np.flatnonzero(((red > 200) & (green < 60) & (blue < 60)).sum(axis=0) > 5)


@pytest.mark.browser
def test_a_browser_draws_both_molecules_and_has_nothing_to_complain_about(report, tmp_path):
    colours, complaints = photographed(report, tmp_path)
    assert complaints == []
    columns, half = red_columns(colours), colours.shape[1] // 2
    assert (columns < half).any()
    assert (columns > half).any()


def test_the_browser_check_finds_a_broken_script_and_an_empty_view(report, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace("function draw() {", "function draw() { lost();"))
    colours, complaints = photographed(broken, tmp_path)
    assert any("lost is not defined" in line for line in complaints)
    assert len(red_columns(colours)) == 0
