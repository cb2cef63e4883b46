"""At constant pressure, volumes are those of the isothermal-isobaric ensemble."""

import json

import h5py
import numpy as np
import pytest
import torch
from ase.build import bulk
from scipy import stats

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State, frame_from_ase
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.simulation.propagators import CellRescaling, Langevin, VelocityVerlet
from sciwm.simulation.references.ase_potentials import emt
from sciwm.simulation.rollout import Rollout, unroll
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import maxwell_boltzmann

PARTICLES, HEAT, PRESSURE = 6, 0.8, 0.5


class Box:
    """Free particles in a box whose own energy is k (ln V - ln V₁)² / 2."""

    units = REDUCED

    def __init__(self, stiffness=0.0, rest=10.0, sign=1.0):
        self.stiffness, self.rest, self.sign = stiffness, rest, sign

    def evaluate(self, state, stress=False):
        volume = torch.linalg.det(state.cell).abs()
        away = (volume / self.rest).log()
        # dE/dε = k (ε - ε₁) shared by three directions, over the volume.
        tension = self.sign * self.stiffness * away / volume
        whole = tension[:, None, None] * torch.eye(3, dtype=volume.dtype)
        energy = 0.5 * self.stiffness * away**2
        return Evaluation(energy, torch.zeros_like(state.positions), whole if stress else None)

    def outside(self, state, evaluation):
        return {}


def boxes(count, volume=10.0):
    edge = volume ** (1 / 3)
    rng = np.random.default_rng(0)
    frame = Frame(
        numbers=np.ones(PARTICLES, dtype=np.int64),
        positions=edge * rng.uniform(size=(PARTICLES, 3)),
        masses=np.ones(PARTICLES),
        cell=edge * np.eye(3),
        pbc=np.ones(3, dtype=bool),
    )
    state = State.collate([State.from_frame(frame, torch.float64)] * count)
    return maxwell_boltzmann(state, HEAT, REDUCED, seed=4, remove_drift=False)


def volumes(simulator, count=600, steps=400):
    inner = Langevin(simulator, 0.2, HEAT, 2.0, seed=1)
    barostat = CellRescaling(inner, PRESSURE, 4.0, 0.5, every=2, seed=2)
    state = boxes(count)
    *_, (end, _) = unroll(barostat, state, barostat.start(state), steps)
    return torch.linalg.det(end.cell).numpy()


def expected(simulator):
    """The distribution of V^N exp(-(E + P V) / k T), on a grid."""
    grid = np.linspace(0.01, 120.0, 200_000)
    energy = 0.5 * simulator.stiffness * np.log(grid / simulator.rest) ** 2
    weight = PARTICLES * np.log(grid) - (energy + PRESSURE * grid) / HEAT
    share = np.cumsum(np.exp(weight - weight.max()))
    return lambda volume: np.interp(volume, grid, share / share[-1])


@pytest.mark.parametrize("stiffness", [0.0, 10.0])
def test_volumes_have_the_exact_distribution(stiffness):
    simulator = Box(stiffness)
    assert stats.kstest(volumes(simulator), expected(simulator)).pvalue > 0.01


def test_the_check_catches_a_virial_of_the_wrong_sign_and_a_pressure_that_is_off():
    assert stats.kstest(volumes(Box(10.0, sign=0.0)), expected(Box(10.0))).pvalue < 1e-6
    off = volumes(Box(0.0)) * 1.15
    assert stats.kstest(off, expected(Box(0.0))).pvalue < 1e-3


def test_free_particles_have_the_gamma_distribution_of_an_ideal_gas():
    """V^N exp(-P V / k T) is that of a gamma variable of N + 1: the grid above against SciPy."""
    gamma = stats.gamma(PARTICLES + 1, scale=HEAT / PRESSURE)
    grid = np.linspace(1.0, 40.0, 50)
    assert np.allclose(expected(Box(0.0))(grid), gamma.cdf(grid), atol=1e-3)


def copper():
    state = State.from_frame(frame_from_ase(bulk("Cu", cubic=True) * (2, 1, 1)), torch.float64)
    return maxwell_boltzmann(State.collate([state, state]), 300.0, MOLECULAR, seed=1)


def at_pressure(seed=0):
    return CellRescaling(Langevin(emt(), 2.0, 300.0, 0.02, seed), 0.01, 200.0, 1.0, 5, seed)


def test_a_run_in_two_parts_is_the_run_in_one_and_its_cells_are_written(tmp_path):
    state = copper()
    whole = Rollout(at_pressure(), tmp_path / "whole.h5md", every=5).run(state, 40)
    parts = Rollout(at_pressure(), tmp_path / "parts.h5md", every=5)
    parts.run(state, 15)
    result = parts.run(state, 40, resume=True)
    assert torch.equal(whole.state.cell, result.state.cell)
    assert torch.equal(whole.state.positions, result.state.positions)
    assert not torch.allclose(whole.state.cell[0], whole.state.cell[1], atol=1e-4)
    with H5MDFile(tmp_path / "parts.h5md") as file:
        cells = np.array([file.trajectories[1].frame(k).cell for k in range(9)])
    assert np.allclose(cells[-1], result.state.cell[1].numpy())
    assert len(np.unique(cells[:, 0, 0])) == 9


def test_a_cell_changes_whatever_shares_its_batch():
    state = copper()
    together = Rollout(at_pressure()).run(state, 20).state
    alone = state.select([1])
    end = Rollout(at_pressure()).run(alone, 20).state
    assert torch.allclose(end.cell[0], together.cell[1], rtol=0, atol=1e-10)


def test_the_command_holds_a_pressure(tmp_path):
    start = tmp_path / "copper.h5md"
    with H5MDWriter(start) as writer:
        writer.append(frame_from_ase(bulk("Cu", cubic=True)))
    out = tmp_path / "out.h5md"
    command = ["simulate", "emt", str(start), "40fs", "--out", str(out), "--dt", "2fs"]
    assert main([*command, "--temperature", "300K", "--pressure", "1kbar"]) == 0
    with h5py.File(out) as file:
        settings = json.loads(file["parameters/sciwm/settings"][()])
    assert settings["pressure"] == pytest.approx(0.1 / 160.21766208)  # eV/Å³
    assert "cell rescaling" in settings["barostat"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: CellRescaling(VelocityVerlet(Box(), 1.0), 0.0, 1.0), "needs a thermostat"),
        (lambda: CellRescaling(Langevin(Box(), 1.0, 1.0, 1.0), 0.0, 0.0), "time_constant"),
        (lambda: CellRescaling(Langevin(Box(), 1.0, 1.0, 1.0), np.nan, 1.0), "must be a number"),
        (
            lambda: CellRescaling(Langevin(Box(), 1.0, 1.0, 1.0), 0.0, 1.0).start(
                State.from_frame(Frame(np.ones(1, dtype=np.int64), np.zeros((1, 3))))
            ),
            "repeat in all three directions",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
