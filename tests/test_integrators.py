"""Integrators obey the theorems they rest on, and thermostats sample the canonical ensemble."""

import copy

import numpy as np
import pytest
import torch
from ase import units as ase_units
from ase.calculators.emt import EMT
from ase.cluster import Octahedron
from ase.md.verlet import VelocityVerlet as AseVelocityVerlet
from scipy import stats

from sciwm.core.frame import Frame
from sciwm.core.random import RandomStreams
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.simulation.propagators import CSVR, Langevin, VelocityVerlet
from sciwm.simulation.references.ase_potentials import emt
from sciwm.simulation.rollout import unroll
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.thermostats import OrnsteinUhlenbeck
from sciwm.simulation.velocities import (
    kinetic_energy,
    maxwell_boltzmann,
    temperature,
    vibrational_velocities,
)


class Trap:
    """Every atom on a spring of its own to the origin: k x² / 2."""

    def __init__(self, stiffness=1.0, units=REDUCED):
        self.stiffness, self.units, self.calls = stiffness, units, 0

    def evaluate(self, state, stress=False):
        self.calls += 1
        energies = 0.5 * self.stiffness * state.positions.square().sum(-1)
        total = energies.new_zeros(state.n_systems).index_add_(0, state.batch, energies)
        return Evaluation(total, -self.stiffness * state.positions)

    def outside(self, state, evaluation):
        return {}


class Molecule:
    """Strongly anharmonic springs between all atoms of a system, of length 1."""

    units = REDUCED

    def __init__(self):
        self.pairs = {}

    def bonds(self, state):
        if state.num_nodes not in self.pairs:
            pairs = torch.triu_indices(state.num_nodes, state.num_nodes, 1)
            self.pairs[state.num_nodes] = pairs[:, state.batch[pairs[0]] == state.batch[pairs[1]]]
        return self.pairs[state.num_nodes]

    def evaluate(self, state, stress=False):
        i, j = self.bonds(state)
        with torch.enable_grad():
            positions = state.positions.detach().requires_grad_()
            stretch = (positions[i] - positions[j]).norm(dim=-1) - 1.0
            energies = 20.0 * stretch**2 + 60.0 * stretch**3 + 120.0 * stretch**4
            total = energies.new_zeros(state.n_systems).index_add_(0, state.batch[i], energies)
            (gradient,) = torch.autograd.grad(total.sum(), positions)
        return Evaluation(total.detach(), -gradient)

    def outside(self, state, evaluation):
        return {}


class Free(Trap):
    """No forces at all."""

    def __init__(self):
        super().__init__(0.0)


class LateKick(VelocityVerlet):
    """One whole kick where there should be two half ones. Proof that the checks below can fail."""

    def advance(self, state, evaluation, index):
        acceleration = self.units.acceleration * evaluation.forces / state.masses[:, None]
        velocities = state.velocities + self.stride * acceleration
        state = state.moved(state.positions + self.stride * velocities, velocities)
        return state, self.simulator.evaluate(state)


class Massless(VelocityVerlet):
    """Forgets the masses. Proof that the checks below can fail."""

    def advance(self, state, evaluation, index):
        light = copy.copy(state)
        light.masses = torch.ones_like(state.masses)
        light, evaluation = super().advance(light, evaluation, index)
        light.masses = state.masses
        return light, evaluation


class LoudNoise(Langevin):
    """Noise of √(1 - c) where it should be √(1 - c²). Proof that the checks below can fail."""

    def advance(self, state, evaluation, index):
        c = np.exp(-self._thermostat.friction * self.stride)
        loud = copy.copy(self)
        loud._thermostat = copy.copy(self._thermostat)
        loud._thermostat.temperature = self.temperature / (1 + c)
        return Langevin.advance(loud, state, evaluation, index)


class Berendsen(VelocityVerlet):
    """Rescaling without noise: the right mean, far too narrow. Proof that the checks can fail."""

    def __init__(self, simulator, dt, target, time_constant):
        super().__init__(simulator, dt)
        self.target, self.time_constant = target, time_constant

    def advance(self, state, evaluation, index):
        state, evaluation = super().advance(state, evaluation, index)
        vibration, freedom = vibrational_velocities(state)
        one = copy.copy(state)
        one.velocities = vibration
        now = 2 * kinetic_energy(one, self.units) / freedom
        scale = (1 + self.stride / self.time_constant * (self.target / now - 1)).sqrt()
        state.velocities = state.velocities + (scale - 1)[state.batch][:, None] * vibration
        return state, evaluation


def molecule(seed, n, spread=0.05, pbc=False):
    """n atoms, all about 1 from one another for n = 4, with velocities and different masses."""
    generator = np.random.default_rng(seed)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [3, 3, 1]]) / 8**0.5
    frame = Frame(
        numbers=np.ones(n, dtype=np.int64),
        positions=corners[:n] + spread * generator.normal(size=(n, 3)),
        velocities=generator.normal(size=(n, 3)),
        masses=generator.uniform(0.5, 3.0, n),
        cell=10.0 * np.eye(3) * pbc,
        pbc=np.full(3, pbc),
    )
    return State.from_frame(frame, torch.float64)


def run(propagator, state, steps):
    """The states after each step."""
    path = unroll(propagator, state, propagator.start(state), steps)
    return [one for one, _ in path][1:]


def energy_error(kind, dt, duration=4.0):
    """The largest departure of the total energy on the way."""
    simulator, state = Molecule(), molecule(0, 4)
    path = [state, *run(kind(simulator, dt), state, round(duration / dt))]
    energies = torch.stack(
        [simulator.evaluate(s).energy + kinetic_energy(s, REDUCED) for s in path]
    )
    return float((energies - energies[0]).abs().max())


def order(kind):
    """The power of the time step with which the energy error falls."""
    return np.log2(energy_error(kind, 0.01) / energy_error(kind, 0.005))


def test_the_energy_error_falls_with_the_square_of_the_step():
    assert order(VelocityVerlet) == pytest.approx(2.0, abs=0.1)


def test_the_order_check_catches_a_wrong_kick():
    assert order(LateKick) < 1.3


def reversal_error(kind):
    """Distance from the start after going there and back."""
    simulator, start = Molecule(), molecule(1, 4)
    end = run(kind(simulator, 0.01), start, 200)[-1]
    back = end.moved(end.positions, -end.velocities)
    home = run(kind(simulator, 0.01), back, 200)[-1]
    return float((home.positions - start.positions).abs().max())


def test_turned_velocities_lead_back():
    assert reversal_error(VelocityVerlet) < 1e-9


def test_the_reversal_check_catches_a_wrong_kick():
    assert reversal_error(LateKick) > 1e-3


def momenta(state):
    """Total momentum and angular momentum."""
    p = state.masses[:, None] * state.velocities
    return torch.cat([p.sum(0), torch.linalg.cross(state.positions, p).sum(0)])


def momentum_error(make):
    state = molecule(2, 5)
    end = run(make(Molecule()), state, 300)[-1]
    return float((momenta(end) - momenta(state)).abs().max())


def verlet(simulator):
    return VelocityVerlet(simulator, 0.01)


def langevin(simulator):
    return Langevin(simulator, 0.01, 1.0, 1.0, seed=7)


def csvr(simulator):
    return CSVR(simulator, 0.01, 1.0, 0.1, seed=7)


PROPAGATORS = [verlet, langevin, csvr]


def massless(simulator):
    return Massless(simulator, 0.01)


@pytest.mark.parametrize("make", PROPAGATORS)
def test_momentum_and_angular_momentum_stay_where_they_are_said_to(make):
    kept = make(Molecule()).conserves
    assert ("momentum" in kept) == ("angular momentum" in kept)
    assert (momentum_error(make) < 1e-11) == ("momentum" in kept)


def test_the_momentum_check_catches_forgotten_masses():
    assert momentum_error(massless) > 1e-2


@pytest.mark.parametrize("make", PROPAGATORS)
def test_the_energy_stays_where_it_is_said_to(make):
    simulator, state = Molecule(), molecule(0, 4)
    end = run(make(simulator), state, 300)[-1]
    before, after = (
        float(simulator.evaluate(one).energy + kinetic_energy(one, REDUCED)) for one in (state, end)
    )
    assert (abs(after - before) < 0.01 * before) == ("energy" in make(simulator).conserves)


def oscillation_error(kind):
    """Departure from the exact solution of velocity Verlet on a spring, x cos(n φ) with
    cos φ = 1 - (ω Δt)² / 2, in Å, eV and fs."""
    stiffness, mass, dt, steps = 30.0, 1.008, 0.8, 400
    state = State.from_frame(
        Frame(numbers=np.array([1]), positions=np.array([[0.1, 0, 0]]), masses=np.array([mass])),
        torch.float64,
    )
    path = run(kind(Trap(stiffness, MOLECULAR), dt), state, steps)
    omega = np.sqrt(stiffness / mass * ase_units._e / ase_units._amu) * 1e-5  # 1/s, in 1/fs
    phase = np.arccos(1 - (omega * dt) ** 2 / 2)
    exact = 0.1 * np.cos(phase * np.arange(1, steps + 1))
    return np.abs(np.array([float(s.positions[0, 0]) for s in path]) - exact).max()


def test_a_spring_swings_as_the_exact_solution_says():
    assert oscillation_error(VelocityVerlet) < 1e-6


def test_the_swing_check_catches_a_wrong_kick():
    assert oscillation_error(LateKick) > 1e-2


def test_a_metal_cluster_moves_as_in_ase():
    atoms = Octahedron("Cu", 3)
    start = maxwell_boltzmann(State.from_ase(atoms, torch.float64), 800.0, MOLECULAR, seed=3)
    end = run(VelocityVerlet(emt(), 2.0), start, 50)[-1]
    atoms = start.to_ase()
    atoms.calc = EMT()
    AseVelocityVerlet(atoms, timestep=2.0 * ase_units.fs).run(50)
    # The two hold fundamental constants to nine digits.
    assert np.abs(end.positions.numpy() - atoms.positions).max() < 1e-7
    assert np.abs(end.velocities.numpy() - atoms.get_velocities() * ase_units.fs).max() < 1e-7


def oscillators(n=4000, mass=(1.0, 9.0)):
    """Two systems of n oscillators of two species, at rest at the origin."""
    masses = np.where(np.arange(n) % 2 == 0, *mass)
    frame = Frame(numbers=np.ones(n, dtype=np.int64), positions=np.zeros((n, 3)), masses=masses)
    return State.collate([State.from_frame(frame, torch.float64)] * 2)


def configurational_ratio(kind, dt):
    """⟨k x²⟩ / k T over 12,000 coordinates of each system: 1 ± 0.013 if canonical."""
    targets = torch.tensor([0.5, 2.0], dtype=torch.float64)
    end = run(kind(Trap(), dt, targets, 0.7, seed=1), oscillators(mass=(1.0, 1.0)), 60)[-1]
    return [float(end.positions[end.batch == s].square().mean() / targets[s]) for s in (0, 1)]


@pytest.mark.parametrize("dt", [0.3, 1.0])
def test_langevin_positions_of_a_spring_are_canonical_at_any_step(dt):
    # Exact for BAOAB (Leimkuhler & Matthews); other splittings are off by 1 / (1 - dt²/4).
    for ratio in configurational_ratio(Langevin, dt):
        assert ratio == pytest.approx(1.0, abs=4 * 0.013)


def test_the_configuration_check_catches_wrong_noise():
    assert min(abs(ratio - 1) for ratio in configurational_ratio(LoudNoise, 0.3)) > 4 * 0.013


def species_temperatures(kind):
    """Kinetic temperature of each species over its target, each ± 0.018 from 6,000 components."""
    targets = torch.tensor([0.5, 2.0], dtype=torch.float64)
    end = run(kind(Trap(), 0.1, targets, 1.0, seed=2), oscillators(), 100)[-1]
    found = []
    for s in (0, 1):
        for mass in (1.0, 9.0):
            rows = (end.batch == s) & (end.masses == mass)
            found.append(float(mass * end.velocities[rows].square().mean() / targets[s]))
    return found


def test_langevin_shares_energy_equally_between_species():
    # BAOAB's velocities are colder by (ω Δt)²/4 = 0.0025 for the light species.
    for ratio in species_temperatures(Langevin):
        assert ratio == pytest.approx(1.0, abs=4 * 0.018)


def test_the_species_check_catches_wrong_noise():
    assert max(abs(ratio - 1) for ratio in species_temperatures(LoudNoise)) > 4 * 0.018


def ensemble(n_systems, n_atoms, start_temperature, pbc=False):
    one = molecule(5, n_atoms, spread=0.0, pbc=pbc)
    state = State.collate([one] * n_systems)
    return maxwell_boltzmann(state, start_temperature, REDUCED, seed=11)


def vibrational_energies(state):
    vibration, freedom = vibrational_velocities(state)
    one = copy.copy(state)
    one.velocities = vibration
    return kinetic_energy(one, REDUCED).numpy(), freedom.tolist()


def canonical_chance(propagator, state, steps, target, freedom):
    """Chance of kinetic energies as unlike the canonical distribution as these, or more so."""
    energies, found = vibrational_energies(run(propagator, state, steps)[-1])
    assert set(found) == {freedom}
    return stats.kstest(2 * energies / target, stats.chi2(freedom).cdf).pvalue


@pytest.mark.parametrize(
    ("n_atoms", "pbc", "freedom"), [(2, False, 1), (4, False, 6), (4, True, 9)]
)
def test_rescaling_makes_the_kinetic_energy_canonical(n_atoms, pbc, freedom):
    start = ensemble(2000, n_atoms, 0.3, pbc)
    chance = canonical_chance(CSVR(Free(), 0.05, 0.8, 0.2), start, 40, 0.8, freedom)
    assert chance > 0.01


def test_rescaling_keeps_interacting_molecules_canonical():
    start = ensemble(600, 4, 0.02)
    path = run(CSVR(Molecule(), 0.02, 0.1, 0.1, seed=4), start, 400)
    energies, _ = vibrational_energies(path[-1])
    assert stats.kstest(2 * energies / 0.1, stats.chi2(6).cdf).pvalue > 0.01
    # Mean and variance besides, with their standard errors over 600 molecules.
    assert energies.mean() == pytest.approx(0.3, abs=4 * 0.05 * 12**0.5 / 600**0.5)
    assert energies.var() == pytest.approx(0.05**2 * 12, rel=4 * (2 / 600 * 2) ** 0.5)


def test_the_canonical_check_catches_rescaling_without_noise():
    start = ensemble(2000, 4, 0.3)
    assert canonical_chance(Berendsen(Free(), 0.05, 0.8, 0.2), start, 40, 0.8, 6) < 1e-6


def test_the_canonical_check_catches_a_wrong_temperature():
    start = ensemble(2000, 4, 0.3)
    assert canonical_chance(CSVR(Free(), 0.05, 0.9, 0.2), start, 40, 0.8, 6) < 1e-6


def test_rescaling_relaxes_the_mean_at_its_time_constant():
    start = ensemble(4000, 4, 0.2)
    before, _ = vibrational_energies(start)
    after, _ = vibrational_energies(run(CSVR(Free(), 0.05, 1.0, 0.5), start, 10)[-1])
    expected = 3.0 + (before.mean() - 3.0) * np.exp(-1.0)  # one time constant later
    assert after.mean() == pytest.approx(expected, abs=4 * 3**0.5 / 4000**0.5)


def test_rescaling_starts_a_molecule_that_is_at_rest():
    state = molecule(0, 4).moved(molecule(0, 4).positions, torch.zeros(4, 3).double())
    end = run(CSVR(Molecule(), 0.01, 1.0, 0.05), state, 200)[-1]
    assert torch.isfinite(end.velocities).all()
    assert float(temperature(end, REDUCED, conserved=6)[0]) > 0.05


@pytest.mark.parametrize("make", PROPAGATORS)
class TestEveryIntegrator:
    def test_a_step_costs_one_evaluation(self, make):
        simulator = Trap()
        run(make(simulator), molecule(0, 4), 10)
        assert simulator.calls == 11

    def test_a_step_can_be_taken_again(self, make):
        state = molecule(0, 4)
        propagator = make(Molecule())
        evaluation = propagator.start(state)
        before = state.positions.clone(), state.velocities.clone()
        for index in (3, 40):
            first, _ = propagator.advance(state, evaluation, index)
            again, _ = propagator.advance(state, evaluation, index)
            assert torch.equal(first.positions, again.positions)
            assert torch.equal(first.velocities, again.velocities)
        assert torch.equal(state.positions, before[0])
        assert torch.equal(state.velocities, before[1])

    def test_systems_in_a_batch_move_as_they_do_alone(self, make):
        parts = [molecule(0, 3), molecule(1, 5), molecule(2, 4)]
        together = run(make(Molecule()), State.collate(parts), 50)[-1]
        for s, part in enumerate(parts):
            part.stream = torch.tensor([s])
            alone = run(make(Molecule()), part, 50)[-1]
            own = together.system(s)
            assert torch.allclose(alone.positions, own.positions, atol=1e-9)
            assert torch.allclose(alone.velocities, own.velocities, atol=1e-9)

    def test_neither_order_nor_company_changes_how_a_system_moves(self, make):
        streams = {3: 11, 5: 7, 4: 23}
        parts = {n: molecule(n, n) for n in streams}
        found = []
        for sizes in ([3, 5, 4], [4, 3], [5, 3]):
            state = State.collate([parts[n] for n in sizes])
            state.stream = torch.tensor([streams[n] for n in sizes])
            state = maxwell_boltzmann(state, 1.0, REDUCED, seed=3)
            end = run(make(Molecule()), state, 20)[-1]
            found.append(end.system(sizes.index(3)).positions)
        assert all(torch.allclose(one, found[0], rtol=0, atol=1e-13) for one in found)

    def test_labels_of_old_positions_are_left_behind(self, make):
        state = molecule(0, 4)
        state.energy, state.forces = torch.zeros(1), torch.zeros(4, 3)
        end = run(make(Molecule()), state, 1)[-1]
        assert "energy" not in end
        assert "forces" not in end


def test_the_alone_check_catches_noise_of_another_system():
    parts = [molecule(0, 3), molecule(1, 5)]
    together = run(langevin(Molecule()), State.collate(parts), 50)[-1]
    wrong = run(langevin(Molecule()), parts[1], 50)[-1]  # of stream 0, not 1
    assert not torch.allclose(wrong.positions, together.system(1).positions, atol=1e-3)


def test_systems_of_a_batch_can_have_their_own_temperatures():
    targets = torch.tensor([0.1, 3.0], dtype=torch.float64)
    state = oscillators()
    end = run(Langevin(Trap(), 0.1, targets, 1.0).select([1]), state.system(1), 100)[-1]
    assert float(temperature(end, REDUCED)[0]) == pytest.approx(3.0, rel=0.06)


@pytest.mark.parametrize("target", [2.0, torch.tensor(2.0)])
def test_one_temperature_serves_all_systems(target):
    propagator = Langevin(Trap(), 0.1, target, 1.0).select([0])
    end = run(propagator, oscillators().system(0), 60)[-1]
    assert float(temperature(end, REDUCED)[0]) == pytest.approx(2.0, rel=0.06)


def test_selected_systems_keep_their_atoms():
    state = State.collate([molecule(0, 3), molecule(1, 5), molecule(2, 4)])
    chosen = state.select([0, 2])
    assert chosen.streams.tolist() == [0, 2]
    assert chosen.counts.tolist() == [3, 4]
    assert torch.equal(chosen.system(1).positions, state.system(2).positions)
    assert torch.equal(chosen.system(1).masses, state.system(2).masses)


def test_drawn_velocities_have_the_temperature_and_no_drift():
    state = State.collate([molecule(s, 4) for s in range(2000)])
    targets = torch.linspace(0.5, 2.0, 2000, dtype=torch.float64)
    drawn = maxwell_boltzmann(state, targets, REDUCED, seed=1)
    ratio = 2 * kinetic_energy(drawn, REDUCED) / targets
    assert stats.kstest(ratio.numpy(), stats.chi2(9).cdf).pvalue > 0.01
    assert max(float(momenta(one)[:3].abs().max()) for one in drawn.systems()[:20]) < 1e-12


def test_drawn_velocities_need_not_turn():
    state = State.collate([molecule(s, n) for s, n in enumerate([2, 3, 5])])
    drawn = maxwell_boltzmann(state, 1.0, REDUCED, remove_rotation=True)
    assert max(float(momenta(one).abs().max()) for one in drawn.systems()) < 1e-12
    turning = maxwell_boltzmann(state, 1.0, REDUCED)
    assert min(float(momenta(one).abs().max()) for one in turning.systems()) > 1e-2


def test_a_single_atom_keeps_its_velocity():
    state = molecule(0, 1)
    assert float(maxwell_boltzmann(state, 1.0, REDUCED).velocities.abs().max()) > 0.1
    end = run(CSVR(Free(), 0.1, 1.0, 0.1), state, 5)[-1]
    assert torch.equal(end.velocities, state.velocities)


def test_random_numbers_are_normal_and_independent():
    state = molecule(0, 5)
    streams = [RandomStreams(0, 0), RandomStreams(0, 1), RandomStreams(1, 0)]
    draws = [torch.stack([s.at(k, state) for k in range(400)]).flatten().numpy() for s in streams]
    for draw in draws:
        assert stats.kstest(draw, stats.norm.cdf).pvalue > 0.01
        # No step repeats another's numbers.
        assert len(np.unique(draw)) == draw.size
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 4 / len(draws[0]) ** 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: VelocityVerlet(Free(), 0.0), "time step must be positive"),
        (lambda: Langevin(Free(), 1.0, -1.0, 1.0), "temperature must not be negative"),
        (lambda: Langevin(Free(), 1.0, 1.0, -1.0), "friction must be a number, zero or above"),
        (lambda: CSVR(Free(), 1.0, 1.0, 0.0), "time_constant must be positive"),
        (lambda: Langevin(Free(), 1.0, 1.0, 1.0, seed=-1), "seed must be between 0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_heat_stays_in_the_plane_of_a_two_dimensional_system():
    rng = np.random.default_rng(0)
    flat = Frame(
        numbers=np.ones(400, dtype=np.int64),
        positions=np.pad(rng.normal(size=(400, 2)), ((0, 0), (0, 1))),
        masses=np.ones(400),
        dimension=2,
    )
    state = maxwell_boltzmann(State.from_frame(flat, torch.float64), 2.0, REDUCED)
    state.velocities = OrnsteinUhlenbeck(2.0, 1.0).apply(state, 0.7, REDUCED, 3)
    assert not bool(state.velocities[:, 2].any())
    # 800 components: the temperature is within four standard errors, sqrt(2 / 800), of its target.
    assert float(temperature(state, REDUCED, 2)) == pytest.approx(2.0, rel=4 * (2 / 800) ** 0.5)
    assert int(vibrational_velocities(state)[1]) == 797
