"""A trajectory is measured whoever wrote it, and what cannot be measured says why."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State, frame_from_ase
from sciwm.core.units import MOLECULAR
from sciwm.data.h5md import H5MDWriter
from sciwm.report.trajectory import analyse
from sciwm.simulation.propagators import Langevin
from sciwm.simulation.references.ase_potentials import emt
from sciwm.simulation.rollout import Rollout
from sciwm.simulation.velocities import maxwell_boltzmann


@pytest.fixture(scope="module")
def copper(tmp_path_factory):
    """Copper at 300 K by EMT, 160 frames."""
    path = tmp_path_factory.mktemp("analyse") / "copper.h5md"
    state = State.from_frame(frame_from_ase(bulk("Cu", cubic=True)))
    state = maxwell_boltzmann(state, 300.0, MOLECULAR)
    Rollout(Langevin(emt(), 4.0, 300.0, 0.02), path, every=2).run(state, 320)
    return path


def test_a_crystal_has_its_density_temperature_and_neighbours(copper):
    [found] = analyse(copper)
    numbers = {one.name: one for one in found.numbers}
    edge = bulk("Cu", cubic=True).cell[0, 0]
    assert numbers["density"].value == pytest.approx(4 * 63.546 * 1.66053906660 / edge**3)
    warm = numbers["temperature"]
    assert warm.value == pytest.approx(300.0, abs=max(4 * warm.error, 60.0))
    assert numbers["bonds broken"].value == 0
    curves = {one.name: one for one in found.curves}
    spectrum = curves["vibrational density of states"]
    assert 50 < spectrum.x[np.argmax(spectrum.value)] < 300  # 1/cm, as copper vibrates
    assert numbers["diffusion coefficient"].value < 0.5  # Å²/ps: of a solid, nothing
    assert found.missing == []


def test_a_molecule_has_bonds_and_a_dihedral_of_unit_area(tmp_path):
    path, rng = tmp_path / "peroxide.h5md", np.random.default_rng(0)
    start = molecule("H2O2")
    with H5MDWriter(path) as writer:
        for k in range(64):
            turned = start.copy()
            turned.rattle(0.02, seed=k)
            frame = frame_from_ase(turned)
            writer.append(frame.with_(time=2.0 * k, step=k, velocities=rng.normal(size=(4, 3))))
    [found] = analyse(path)
    numbers = {one.name: one for one in found.numbers}
    [bond] = (one for name, one in numbers.items() if name.startswith("O-O bond"))
    assert bond.value == pytest.approx(start.get_distance(0, 1), abs=0.02)
    assert bond.error < 0.01
    [angle] = (one for one in found.curves if "dihedral" in one.name)
    assert (angle.value * 5.0).sum() == pytest.approx(1.0)
    peak = abs(angle.x[np.argmax(angle.value)])
    expected = start.get_dihedral(2, 0, 1, 3)
    assert peak == pytest.approx(min(expected, 360 - expected), abs=10.0)


def test_the_command_prints_and_draws_it(copper, tmp_path, capsys):
    page = tmp_path / "motion.html"
    assert main(["analyse", str(copper), "--out", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "density 8." in printed
    assert "160 frames" in printed or "161 frames" in printed
    html = page.read_text()
    assert "mean squared displacement" in html
    assert "<svg" in html or "image/svg+xml" in html


def test_a_file_in_which_nothing_moves_is_refused(tmp_path, capsys):
    path = tmp_path / "still.h5md"
    with H5MDWriter(path) as writer:
        writer.append(Frame(np.array([18]), np.zeros((1, 3))))
    assert main(["analyse", str(path)]) == 2
    assert "nothing moves" in capsys.readouterr().err
