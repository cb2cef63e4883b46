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
from sciwm.interfaces.motion import MotionSettings
from sciwm.simulation.propagators import (
    FullCellRescaling,
    IsotropicRescaling,
    Langevin,
    SemiIsotropicRescaling,
    VelocityVerlet,
)
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


def volumes(simulator, kind=IsotropicRescaling, count=600, steps=400):
    inner = Langevin(simulator, 0.2, HEAT, 2.0, seed=1)
    barostat = kind(inner, PRESSURE, 4.0, 0.5, every=2, seed=2)
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


KINDS = [IsotropicRescaling, SemiIsotropicRescaling, FullCellRescaling]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stiffness", [0.0, 10.0])
def test_volumes_have_the_exact_distribution(stiffness, kind):
    """Whatever else of a cell may change: free particles do not mind its shape."""
    simulator = Box(stiffness)
    assert stats.kstest(volumes(simulator, kind), expected(simulator)).pvalue > 0.01


class Solid:
    """Free particles in a box of an elastic solid: U = μ tr(E²) + λ tr(E)² / 2 with E = (g / l² - 1) / 2,
    where g are the products of cell vectors (St. Venant and Kirchhoff)."""

    units = REDUCED
    shear, bulk, rest = 15.0, 10.0, 10.0 ** (1 / 3)

    def energy(self, cell):
        eye = torch.eye(3, dtype=cell.dtype)
        strain = 0.5 * (cell @ cell.transpose(1, 2) / self.rest**2 - eye)
        trace = strain.diagonal(dim1=1, dim2=2).sum(-1)
        return self.shear * strain.square().sum((1, 2)) + 0.5 * self.bulk * trace**2

    def evaluate(self, state, stress=False):
        strain = torch.zeros_like(state.cell, requires_grad=True)
        energy = self.energy(state.cell + state.cell @ (0.5 * (strain + strain.transpose(1, 2))))
        (change,) = torch.autograd.grad(energy.sum(), strain)
        volume = torch.linalg.det(state.cell).abs()
        tension = change / volume[:, None, None]
        return Evaluation(energy.detach(), torch.zeros_like(state.positions), tension)

    def outside(self, state, evaluation):
        return {}


def shapes(kind, count=800, steps=800):
    """Squares of lengths and products of cell vectors in units of those at rest, from several times."""
    simulator = Solid()
    inner = Langevin(simulator, 0.2, HEAT, 2.0, seed=1)
    barostat = kind(inner, PRESSURE, 8.0, 0.5, every=2, seed=2)
    state = boxes(count)
    path = unroll(barostat, state, barostat.start(state), steps)
    cells = torch.cat([one.cell for k, (one, _) in enumerate(path) if k >= 200 and k % 50 == 0])
    metric = cells @ cells.transpose(1, 2) / simulator.rest**2
    return metric.numpy()


def weighted(cells, logarithm):
    """Means and variances of the same, by importance sampling."""
    weight = np.exp(logarithm - logarithm.max())
    metric = (cells @ cells.transpose(1, 2) / Solid.rest**2).numpy()
    names = {"xx": (0, 0), "zz": (2, 2), "xy": (0, 1)}
    found = {}
    for name, (i, j) in names.items():
        mean = np.average(metric[:, i, j], weights=weight)
        spread = np.average((metric[:, i, j] - mean) ** 2, weights=weight)
        found[name] = mean, spread
    return found


def told(metric):
    names = {"xx": (0, 0), "zz": (2, 2), "xy": (0, 1)}
    return {n: (metric[:, i, j].mean(), metric[:, i, j].var()) for n, (i, j) in names.items()}


def agree(found, right):
    """Means and variances, within what so many cells tell."""
    (mean, spread), (true_mean, true_spread) = found, right
    return abs(mean - true_mean) < 0.06 * true_spread**0.5 and abs(spread / true_spread - 1) < 0.12


def boltzmann(cells):
    volume = torch.linalg.det(cells)
    return volume, -(Solid().energy(cells) + PRESSURE * volume) / HEAT


def test_all_lengths_and_angles_of_a_solid_have_their_spread():
    """A cell is a turn times a symmetric one; over those, nine numbers have the density of six times the
    product of sums of principal lengths."""
    rng = np.random.default_rng(0)
    width = 0.2
    draws = width * rng.standard_normal((400_000, 6))
    stretch = np.tile(np.eye(3), (len(draws), 1, 1))
    for k, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
        stretch[:, i, j] = stretch[:, j, i] = (i == j) + draws[:, k]
    principal = np.linalg.eigvalsh(stretch)
    sound = principal[:, 0] > 0
    stretch, principal, draws = stretch[sound], principal[sound], draws[sound]
    sums = (
        (principal[:, 0] + principal[:, 1])
        * (principal[:, 0] + principal[:, 2])
        * (principal[:, 1] + principal[:, 2])
    )
    cells = torch.as_tensor(Solid.rest * stretch)
    volume, energy = (one.numpy() for one in boltzmann(cells))
    drawn = -0.5 * ((draws / width) ** 2).sum(axis=1)
    logarithm = (PARTICLES - 2) * np.log(volume) + energy + np.log(sums) - drawn
    right = weighted(cells, logarithm)
    found = told(shapes(FullCellRescaling))
    for name in right:
        assert agree(found[name], right[name]), (name, found, right)
    # With other powers of the volume, or without the sums, lengths are others.
    for wrong in (logarithm + 3 * np.log(volume), logarithm - np.log(sums)):
        assert not agree(found["xx"], weighted(cells, wrong)["xx"])


def test_areas_and_lengths_of_layers_have_their_spread():
    """Density A^N l^N exp(-(U + P V) / k T) over the area and the length, on a grid."""
    a, c = np.meshgrid(np.linspace(1.2, 3.2, 400), np.linspace(1.2, 3.2, 400))
    cells = torch.zeros((a.size, 3, 3), dtype=torch.float64)
    cells[:, 0, 0] = cells[:, 1, 1] = torch.as_tensor(a.ravel())
    cells[:, 2, 2] = torch.as_tensor(c.ravel())
    volume, energy = boltzmann(cells)
    # dA = 2 a da.
    logarithm = PARTICLES * volume.log() + energy + torch.as_tensor(np.log(a.ravel()))
    right = weighted(cells, logarithm.numpy())
    found = told(shapes(SemiIsotropicRescaling))
    for name in ("xx", "zz"):
        assert agree(found[name], right[name]), (name, found, right)
    assert found["xy"] == (0.0, 0.0)
    assert right["zz"][1] > 1.2 * right["xx"][1]


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


def at_pressure(seed=0, kind=IsotropicRescaling):
    return kind(Langevin(emt(), 2.0, 300.0, 0.02, seed), 0.01, 200.0, 1.0, 5, seed)


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_changes_whatever_shares_its_batch(kind):
    state = copper()
    together = Rollout(at_pressure(kind=kind)).run(state, 20).state
    alone = state.select([1])
    end = Rollout(at_pressure(kind=kind)).run(alone, 20).state
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
    assert settings["barostat"] == "stochastic cell rescaling, isotropic"
    whole = [*command[:-3], str(tmp_path / "full.h5md"), *command[-2:]]
    held = ["--temperature", "300K", "--pressure", "1kbar", "--barostat", "full"]
    assert main([*whole, *held]) == 0
    with h5py.File(tmp_path / "full.h5md") as file:
        settings = json.loads(file["parameters/sciwm/settings"][()])
    assert settings["barostat"] == "stochastic cell rescaling, full cell"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: IsotropicRescaling(VelocityVerlet(Box(), 1.0), 0.0, 1.0), "needs a thermostat"),
        (lambda: IsotropicRescaling(Langevin(Box(), 1.0, 1.0, 1.0), 0.0, 0.0), "time_constant"),
        (
            lambda: IsotropicRescaling(Langevin(Box(), 1.0, 1.0, 1.0), np.nan, 1.0),
            "must be a number",
        ),
        (
            lambda: IsotropicRescaling(Langevin(Box(), 1.0, 1.0, 1.0), 0.0, 1.0).start(
                State.from_frame(Frame(np.ones(1, dtype=np.int64), np.zeros((1, 3))))
            ),
            "repeat in all three directions",
        ),
        (
            lambda: SemiIsotropicRescaling(Langevin(emt(), 1.0, 300.0, 0.1), 0.0, 1.0).start(
                State.from_frame(frame_from_ase(bulk("Cu")), torch.float64)
            ),
            "third vector is along z",
        ),
        (
            lambda: MotionSettings(temperature=300.0, pressure="1bar", barostat="cubic"),
            "no barostat 'cubic'",
        ),
        (lambda: MotionSettings(temperature=300.0, barostat="full"), "needs a pressure"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
