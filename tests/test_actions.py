"""Actions act on learned worlds and references alike, by exact laws, and say what they break."""

import json
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.geometry import (
    get_angles,
    get_angles_derivatives,
    get_dihedrals,
    get_dihedrals_derivatives,
)

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED, UnitError
from sciwm.data.h5md import H5MDFile
from sciwm.simulation.actions import (
    Addition,
    CellChange,
    ChargeChange,
    ConstantForce,
    During,
    Frozen,
    HeavyHydrogens,
    Ionisation,
    Kicked,
    MassChange,
    Removal,
    Spring,
    SteeredAngle,
    SteeredDistance,
    SteeredTorsion,
    TemperatureSchedule,
    Trap,
    UniformField,
    Wall,
    acted,
    actions_from,
    numbers_before,
)
from sciwm.simulation.actions.action import TimeWindow
from sciwm.simulation.propagators import CSVR, Langevin, VelocityVerlet
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.rollout import Rollout, unroll
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import kinetic_energy, maxwell_boltzmann

FORCES = [
    ConstantForce([0, 2], [0.3, -0.2, 0.1]),
    UniformField([0.1, 0.2, -0.3]),
    UniformField([0.1, 0.2, -0.3], frequency=0.7, phase=0.4, charges=[1.0, -2.0, 0.5, 0.3]),
    Spring([1, 3], 2.0, 0.7),
    Trap([0, 3], 1.5, [0.1, 0.2, 0.3], [0.5, 0.0, -0.5]),
    Wall([1, 1, 0], 0.4, 3.0),
    SteeredDistance([0, 2], 2.0, 1.5, 1.0, 2.0),
    SteeredAngle([2, 0, 3], 2.0, 1.5, 60.0, 170.0),
    SteeredTorsion([0, 1, 2, 3], 2.0, 1.5, 170.0, 560.0),
]
OTHERS = [
    Frozen([1]),
    TemperatureSchedule([0.0, "2"], [1.0, 2.0]),
    ChargeChange([0], -2.0),
    MassChange([3], 4.0),
    Removal([1]),
    Addition(2, [1.0, 2.0, 3.0], 2.0, charge=0.5),
    Ionisation(1.0),
    CellChange([1.1, 1.0, 0.9]),
    During(0.5, 1.0, [ConstantForce([0], [1.0, 0, 0]), TemperatureSchedule([0.0], [2.0])]),
]


class Bonds:
    """Harmonic bonds of length 1 in a chain of particles."""

    units = REDUCED

    def evaluate(self, state, stress=False):
        same = state.batch[1:] == state.batch[:-1]
        arms = state.positions[1:] - state.positions[:-1]
        lengths = arms.norm(dim=-1)
        stretch = (lengths - 1.0) * same
        pull = 40.0 * (stretch / lengths)[:, None] * arms
        forces = torch.zeros_like(state.positions)
        forces[:-1] += pull
        forces[1:] -= pull
        energy = pull.new_zeros(state.n_systems).index_add(0, state.batch[1:], 20.0 * stretch**2)
        return Evaluation(energy, forces)

    def outside(self, state, evaluation):
        return {}


class Nothing(Bonds):
    """Free particles."""

    def evaluate(self, state, stress=False):
        return Evaluation(
            state.positions.new_zeros(state.n_systems), torch.zeros_like(state.positions)
        )


class NothingMolecular(Nothing):
    """The same in Å, fs and eV."""

    units = MOLECULAR


class Sum(Bonds):
    """Bonds and forces from outside that stay as they are, as one law."""

    def __init__(self, forces):
        self.forces = forces

    def evaluate(self, state, stress=False):
        found = super().evaluate(state)
        for one in self.forces:
            energy, forces = one.act(state, 0.0)
            found = Evaluation(found.energy + energy, found.forces + forces)
        return found


class OneKick(Kicked):
    """One whole kick before the stride. Proof that the checks below can fail."""

    def _kicked(self, state, time, middle):
        if round(time / self.stride) in self.done:
            return state
        self.done.add(round(time / self.stride))
        return super()._kicked(super()._kicked(state, time, middle), time, middle)


def chain(seed=0, count=4):
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(count, 3))
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    return State.from_frame(
        Frame(
            numbers=np.arange(1, count + 1),
            positions=steps.cumsum(axis=0),
            velocities=rng.normal(size=(count, 3)),
            masses=rng.uniform(1.0, 3.0, size=count),
            charges=rng.choice([-1.0, 1.0], size=count),
        ),
        torch.float64,
    )


def run(propagator, state, steps):
    """The last state."""
    *_, (end, _) = unroll(propagator, state, propagator.start(state), steps)
    return end


class TestForces:
    @pytest.mark.parametrize("force", FORCES, ids=lambda one: type(one).__name__)
    def test_they_are_the_gradients_of_their_energies(self, force):
        state = State.collate([chain(1), chain(2)])
        energy, forces = force.act(state, 0.6)
        assert energy.shape == (2,)
        step = 1e-5
        for atom, axis in [(0, 0), (1, 1), (2, 2), (3, 0), (5, 1), (7, 2)]:
            ends = []
            for side in (step, -step):
                moved = state.positions.clone()
                moved[atom, axis] += side
                ends.append(force.act(state.moved(moved), 0.6)[0].sum())
            numerical = float(-(ends[0] - ends[1]) / (2 * step))
            assert numerical == pytest.approx(float(forces[atom, axis]), abs=2e-8)

    def test_a_force_that_is_none_of_its_energy_would_be_noticed(self):
        @dataclass(frozen=True)
        class Wrong(Spring):
            def act(self, state, time):
                energy, forces = super().act(state, time)
                return energy, 2.0 * forces

        with pytest.raises(AssertionError):
            self.test_they_are_the_gradients_of_their_energies(Wrong([1, 3], 2.0, 0.7))

    @pytest.mark.parametrize("seed", range(4))
    def test_angles_and_torsions_are_ases(self, seed):
        points = np.random.default_rng(seed).normal(size=(4, 3))
        arms = [points[[k]] - points[[k - 1]] for k in (1, 2, 3)]
        torsion = SteeredTorsion([0, 1, 2, 3], 1.0, 1.0, 0.0, 1.0)
        value, gradients = torsion.coordinate(torch.tensor(points)[None])
        assert float(value) % (2 * np.pi) == pytest.approx(np.radians(get_dihedrals(*arms)[0]))
        expected = np.radians(get_dihedrals_derivatives(*arms)[0])
        np.testing.assert_allclose(gradients[0].numpy(), expected, atol=1e-10)
        angle = SteeredAngle([0, 1, 2], 1.0, 1.0, 0.0, 1.0)
        value, gradients = angle.coordinate(torch.tensor(points[:3])[None])
        sides = points[[0]] - points[[1]], points[[2]] - points[[1]]
        assert float(value) == pytest.approx(np.radians(get_angles(*sides)[0]))
        expected = np.radians(get_angles_derivatives(*sides)[0])
        np.testing.assert_allclose(gradients[0].numpy(), expected, atol=1e-10)

    def test_a_straight_angle_and_meeting_particles_give_numbers(self):
        straight = torch.tensor([[[1.0, 0, 0], [0, 0, 0], [-1.0, 0, 0]]])
        assert SteeredAngle([0, 1, 2], 1.0, 1.0, 0.0, 1.0).coordinate(straight)[1].isfinite().all()
        state = chain()
        state.positions[3] = state.positions[1]
        assert Spring([1, 3], 2.0, 0.7).act(state, 0.0)[1].isfinite().all()


class TestDriven:
    STATIC: ClassVar = [*FORCES[:2], FORCES[3], FORCES[5]]

    @pytest.mark.parametrize("make", ["verlet", "langevin"])
    def test_kicks_around_a_stride_are_the_integrator_of_all_forces(self, make):
        def integrator(simulator):
            if make == "verlet":
                return VelocityVerlet(simulator, 0.01)
            return Langevin(simulator, 0.01, 0.7, 0.5, seed=3)

        state = chain()
        together = run(integrator(Sum(self.STATIC)), state, 200)
        propagator, start = acted(integrator(Bonds()), state, self.STATIC)
        apart = run(propagator, start, 200)
        torch.testing.assert_close(apart.positions, together.positions, rtol=0, atol=1e-10)
        torch.testing.assert_close(apart.velocities, together.velocities, rtol=0, atol=1e-10)
        wrong = OneKick(integrator(Bonds()), [TimeWindow(one) for one in self.STATIC])
        wrong.done = set()
        off = run(wrong, start, 200)
        assert (off.positions - together.positions).abs().max() > 1e-4

    def test_a_charge_in_an_oscillating_field_follows_the_formula(self):
        """x = q E / (m ω²) (1 - cos ω t) from rest, with an error of second order."""
        field, frequency, time = 0.8, 0.3, 2.0
        state = State.from_frame(
            Frame(
                np.array([1]), np.zeros((1, 3)), masses=np.array([2.0]), charges=np.array([-1.5])
            ),
            torch.float64,
        )
        omega = 2 * np.pi * frequency
        exact = -1.5 * field / (2.0 * omega**2) * (1 - np.cos(omega * time))
        errors = []
        for steps in (50, 100, 200):
            action = UniformField([field, 0, 0], frequency=frequency)
            propagator, start = acted(VelocityVerlet(Nothing(), time / steps), state, [action])
            errors.append(abs(float(run(propagator, start, steps).positions[0, 0]) - exact))
        assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)
        assert errors[1] / errors[2] == pytest.approx(4, rel=0.02)

    def test_long_times_leave_an_oscillating_field_its_phase(self):
        """In single precision a million and a bit has no digit left for the phase."""
        state = chain()
        for key in ("positions", "velocities", "masses", "charges", "cell"):
            state[key] = state[key].float()
        time = 1_000_006.3
        _, forces = UniformField([1.0, 0, 0], frequency=0.1).act(state, time)
        expected = float(state.charges[0]) * np.cos(2 * np.pi * 0.1 * time)
        assert float(forces[0, 0]) == pytest.approx(expected, abs=1e-6)

    def test_a_field_is_on_only_from_its_beginning_to_its_end(self):
        state = chain()
        state.velocities = torch.zeros_like(state.velocities)
        action = UniformField([1.0, 0, 0], begin=0.5, end=1.0)
        propagator, start = acted(VelocityVerlet(Nothing(), 0.01), state, [action])
        at_rest = Nothing().evaluate(start)
        speeds = [one.velocities for one, _ in unroll(propagator, start, at_rest, 200)]
        assert float(speeds[49].abs().max()) == 0.0
        gained = state.charges / state.masses * 0.5
        assert torch.allclose(speeds[101][:, 0], gained, atol=1e-12)
        assert torch.equal(speeds[101], speeds[200])

    @pytest.mark.parametrize(
        "action", [FORCES[4], FORCES[6], FORCES[8]], ids=lambda a: type(a).__name__
    )
    def test_the_work_is_what_the_energy_of_the_system_grows_by(self, action):
        state = chain()
        errors = []
        for steps in (800, 1600, 3200):
            inner = VelocityVerlet(Bonds(), 2.0 / steps)
            propagator, start = acted(inner, state, [action])
            end = run(propagator, start, steps)
            before, after = (
                Bonds().evaluate(one).energy + kinetic_energy(one, REDUCED) for one in (start, end)
            )
            assert abs(float(after - before)) > 0.1
            errors.append(float((end.work - (after - before)).abs()))
        assert errors[2] < 1e-3
        assert errors[0] / errors[2] == pytest.approx(16, rel=0.5)

    def test_jarzynskis_equality_holds_for_a_trap_that_is_dragged(self):
        """The free energy of a dragged trap stays: the mean of exp(-W / k T) is 1, that of W is not 0."""
        count, heat, stiffness = 4000, 0.5, 2.0
        action = Trap([0], stiffness, [0.0, 0, 0], [1.0, 0, 0])
        rng = np.random.default_rng(0)
        one = Frame(np.array([1]), np.zeros((1, 3)), masses=np.array([1.0]))
        state = State.collate([State.from_frame(one, torch.float64)] * count)
        spread = np.sqrt(heat / stiffness)
        state.positions = torch.tensor(rng.normal(size=(count, 3)) * spread)
        state = maxwell_boltzmann(state, heat, REDUCED, 1, remove_drift=False)
        propagator, start = acted(Langevin(Nothing(), 0.05, heat, 1.0, 5), state, [action])
        end = run(propagator, start, 40)
        rise = action.act(end, 2.0)[0] - action.act(start, 0.0)[0]
        work = (end.work + rise).numpy()  # of moving the trap, not that of its force
        weights = np.exp(-work / heat)
        error = weights.std() / np.sqrt(count)
        assert weights.mean() == pytest.approx(1.0, abs=4 * error)
        assert work.mean() > 10 * work.std() / np.sqrt(count)
        # The work of the force itself, taken for it, would be noticed.
        assert abs(np.exp(-end.work.numpy() / heat).mean() - 1.0) > 4 * error

    def test_frozen_particles_stay_and_the_others_keep_their_heat(self):
        state = State.collate([chain(seed) for seed in range(60)])
        inner = Langevin(Bonds(), 0.02, 0.8, 1.0, 2)
        propagator, start = acted(inner, state, [Frozen([0, 2])])
        held = np.tile([True, False, True, False], 60)
        free, kinetic = torch.tensor(~held), []
        for number, (now, _) in enumerate(unroll(propagator, start, Bonds().evaluate(start), 2000)):
            if number > 500:
                kinetic.append((now.masses[free] * now.velocities[free].square().sum(-1)).mean())
        assert torch.equal(now.positions[held], state.positions[held])
        assert torch.equal(now.masses, state.masses)
        assert float(now.velocities[held].abs().max()) < 1e-10
        assert np.mean(kinetic) / 3 == pytest.approx(0.8, rel=0.02)

    def test_a_schedule_leads_the_temperature(self):
        state = State.collate([chain(seed) for seed in range(200)])
        state = maxwell_boltzmann(state, 1.0, REDUCED, 0, remove_drift=False)
        schedule = TemperatureSchedule([5.0, 10.0], [1.0, 3.0])
        propagator, start = acted(Langevin(Bonds(), 0.02, 1.0, 2.0, 2), state, [schedule])
        heat = []
        for now, _ in unroll(propagator, start, Bonds().evaluate(start), 1500):
            heat.append(float(kinetic_energy(now, REDUCED).sum()) / (1.5 * len(now.numbers)))
        assert np.mean(heat[50:250]) == pytest.approx(1.0, rel=0.03)
        assert np.mean(heat[700:]) == pytest.approx(3.0, rel=0.03)
        assert np.mean(heat[360:390]) == pytest.approx(1.95, rel=0.05)  # it follows by 1/2γ

    @pytest.mark.parametrize("kind", [Langevin, CSVR])
    def test_a_schedule_that_stays_changes_nothing(self, kind):
        state = chain()
        inner = kind(Bonds(), 0.02, 1.0, 2.0, 2)
        propagator, start = acted(inner, state, [TemperatureSchedule([0.0], [1.0])])
        there, here = run(propagator, start, 100), run(inner, state, 100)
        assert torch.equal(there.positions, here.positions)

    def test_many_systems_do_what_each_does_alone(self):
        states = [chain(seed) for seed in range(3)]
        for number, one in enumerate(states):
            one.stream = torch.tensor([number])
        actions = [*FORCES, Frozen([1])]
        inner = Langevin(Bonds(), 0.01, 0.7, 0.5, seed=3)
        propagator, start = acted(inner, State.collate(states), actions)
        together = run(propagator, start, 100)
        for number, one in enumerate(states):
            propagator, start = acted(inner, one, actions)
            alone = run(propagator, start, 100)
            found = together.system(number)
            torch.testing.assert_close(found.positions, alone.positions, rtol=0, atol=1e-12)
            torch.testing.assert_close(found.work, alone.work, rtol=0, atol=1e-12)

    def test_what_an_action_breaks_is_known(self):
        inner = VelocityVerlet(Bonds(), 0.01)
        assert acted(inner, chain(), [])[0] is inner
        assert acted(inner, chain(), [FORCES[3]])[0].conserves == {"momentum", "angular momentum"}
        assert acted(inner, chain(), [FORCES[0]])[0].conserves == set()
        assert acted(inner, chain(), [MassChange([0], 2.0)])[0].conserves == inner.conserves

    def test_a_spring_keeps_both_momenta_and_a_force_does_not(self):
        for action, kept in (
            (Spring([0, 3], 5.0, 1.0), True),
            (ConstantForce([0], [1, 0, 0]), False),
        ):
            propagator, start = acted(VelocityVerlet(Bonds(), 0.01), chain(), [action])
            end = run(propagator, start, 300)
            for of in (momentum, angular_momentum):
                assert torch.allclose(of(end), of(start), atol=1e-10) == kept

    def test_two_dimensions_stay_two(self):
        flat = chain().frame()
        flat.positions[:, 2] = flat.velocities[:, 2] = 0.0
        state = State.from_frame(replace(flat, dimension=2), torch.float64)
        action = ConstantForce([0], [0.1, 0.2, 0.3])
        propagator, start = acted(VelocityVerlet(Nothing(), 0.01), state, [action])
        assert float(run(propagator, start, 50).positions[:, 2].abs().max()) == 0.0


def momentum(state):
    return (state.masses[:, None] * state.velocities).sum(0)


def angular_momentum(state):
    return torch.linalg.cross(state.positions, state.masses[:, None] * state.velocities).sum(0)


class TestDuring:
    def test_a_force_for_some_of_the_time_is_that_of_a_field_which_is_switched(self):
        """And its impulse is force times time, to the last digit, for either end of the window."""
        state = chain()
        state.velocities = torch.zeros_like(state.velocities)
        window = During(0.5, 1.0, [UniformField([1.0, 0, 0])])
        propagator, start = acted(VelocityVerlet(Nothing(), 0.01), state, [window])
        end = run(propagator, start, 200)
        gained = state.charges / state.masses * 0.5
        assert torch.allclose(end.velocities[:, 0], gained, atol=1e-12)
        assert propagator.conserves == set()

    def test_windows_one_after_another_are_one_that_stays(self):
        whole, parts = (
            acted(Langevin(Bonds(), 0.01, 0.7, 0.5, 3), chain(), actions)
            for actions in (
                [FORCES[0]],
                [During(k / 4, (k + 1) / 4, [FORCES[0]]) for k in range(4)],
            )
        )
        there, here = run(*whole, 100), run(*parts, 100)
        assert torch.equal(there.positions, here.positions)
        assert torch.equal(there.work, here.work)
        gap = [During(k / 4, (k + 0.96) / 4, [FORCES[0]]) for k in range(4)]
        off = run(*acted(Langevin(Bonds(), 0.01, 0.7, 0.5, 3), chain(), gap), 100)
        assert (off.positions - here.positions).abs().max() > 1e-4

    def test_what_is_done_counts_its_own_time(self):
        moving = Trap([0], 3.0, [0.0, 0, 0], [0.5, 0, 0])
        propagator, start = acted(
            VelocityVerlet(Nothing(), 0.01),
            chain(),
            [During(0.3, 9.0, [During(0.2, 9.0, [moving])])],
        )
        windows = During(0.3, 9.0, [During(0.2, 9.0, [moving])]).windows()
        assert [(one.begin, one.end) for one in windows] == [(0.5, 9.0)]
        early = run(propagator, start, 50)
        propagator, _ = acted(VelocityVerlet(Nothing(), 0.01), early, [moving])
        later = run(propagator, early, 50)
        whole, start = acted(VelocityVerlet(Nothing(), 0.01), chain(), [During(0.5, 9, [moving])])
        torch.testing.assert_close(run(whole, start, 100).positions, later.positions)

    def test_a_thermostat_is_led_for_some_of_the_time(self):
        state = State.collate([chain(seed) for seed in range(200)])
        hot = During(5.0, 10.0, [TemperatureSchedule([0.0], [3.0])])
        propagator, start = acted(Langevin(Bonds(), 0.02, 1.0, 2.0, 2), state, [hot])
        assert propagator.temperature == 3.0
        heat = []
        for now, _ in unroll(propagator, start, Bonds().evaluate(start), 900):
            heat.append(float(kinetic_energy(now, REDUCED).sum()) / (1.5 * len(now.numbers)))
        assert np.mean(heat[150:250]) == pytest.approx(1.0, rel=0.03)
        assert np.mean(heat[400:500]) == pytest.approx(3.0, rel=0.03)
        assert np.mean(heat[800:]) == pytest.approx(1.0, rel=0.03)

    def test_what_cannot_be_done_for_some_of_the_time_is_refused(self):
        with pytest.raises(ValueError, match="take it out of During"):
            During(0.0, 1.0, [Frozen([0])])
        with pytest.raises(ValueError, match="before it begins"):
            During(2.0, 1.0, [FORCES[0]])
        two = [During(k, k + 1.5, [TemperatureSchedule([0.0], [2.0])]) for k in range(2)]
        with pytest.raises(ValueError, match="at a time"):
            acted(Langevin(Bonds(), 0.02, 1.0, 2.0, 2), chain(), two)
        late = During(0.0, 1.0, [ConstantForce([9], [1, 0, 0])])
        with pytest.raises(ValueError, match=r"particle 9, but system 0 has 4"):
            acted(VelocityVerlet(Bonds(), 0.01), chain(), [late])


class TestOneForEachSystem:
    """(S,) numbers in place of one act on each system as its own number would alone."""

    @staticmethod
    def some(values):
        return torch.tensor(values, dtype=torch.float64)

    CASES: ClassVar = {
        "force": lambda a: ConstantForce([0], [a, 0.1, 0]),
        "field": lambda a: UniformField([0, a, 0], frequency=a, phase=a),
        "spring": lambda a: Spring([1, 3], a, a),
        "trap": lambda a: Trap([0], a, [a, 0, 0], [0, a, 0]),
        "wall": lambda a: Wall([1, 1, 0], a, 3.0),
        "distance": lambda a: SteeredDistance([0, 2], 0.5, 2.0, 1.0, a),
        "torsion": lambda a: SteeredTorsion([0, 1, 2, 3], 0.5, 1.5, 170.0, a * 100),
        "schedule": lambda a: TemperatureSchedule([0.0, 0.3], [1.0, a]),
        "window": lambda a: During(0.0, a, [ConstantForce([0], [5.0, 0, 0])]),
        "warm": lambda a: During(0.1, a, [TemperatureSchedule([0.0], [a])]),
        "mass": lambda a: MassChange([1], a),
    }

    @pytest.mark.parametrize("name", CASES)
    def test_as_alone(self, name):
        values = [0.4, 1.1, 2.3]
        states = [chain(seed) for seed in range(3)]
        for number, one in enumerate(states):
            one.stream = torch.tensor([number])
        inner = Langevin(Bonds(), 0.01, 0.7, 0.5, seed=3)
        make = self.CASES[name]
        many, start = acted(inner, State.collate(states), [make(self.some(values))])
        together = run(many, start, 80)
        for number, (one, value) in enumerate(zip(states, values, strict=True)):
            propagator, begin = acted(inner, one, [make(value)])
            alone = run(propagator, begin, 80)
            torch.testing.assert_close(
                together.system(number).positions, alone.positions, rtol=0, atol=1e-12
            )
        swapped, start = acted(inner, State.collate(states), [make(self.some(values[::-1]))])
        assert (run(swapped, start, 80).positions - together.positions).abs().max() > 1e-6

    def test_systems_that_are_left_keep_theirs(self):
        many = [ConstantForce([0], [self.some([1.0, 2.0, 3.0]), 0.0, 0.0])]
        state = State.collate([chain(seed) for seed in range(3)])
        propagator, start = acted(VelocityVerlet(Bonds(), 0.01), state, many)
        whole = run(propagator, start, 50)
        some = run(propagator.select([0, 2]), start.select([0, 2]), 50)
        torch.testing.assert_close(some.system(1).positions, whole.system(2).positions)
        assert json.loads(propagator.parameters["actions"])[0] == {
            "ConstantForce": {"particles": [0], "force": [[1.0, 2.0, 3.0], 0.0, 0.0]}
        }

    def test_gradients_run_through_them(self):
        pull = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
        propagator, start = acted(
            VelocityVerlet(Nothing(), 0.1), chain(), [ConstantForce([0], [pull, 0.0, 0.0])]
        )
        end = run(propagator, start, 10).positions[0, 0]
        (slope,) = torch.autograd.grad(end, pull)
        assert float(slope) == pytest.approx(0.5 / float(start.masses[0]))


class TestChanges:
    def test_each_changes_what_it_says_and_nothing_else(self):
        state = chain()
        inner = VelocityVerlet(Nothing(), 0.01)
        _, there = acted(inner, state, [ChargeChange([0, 2], 3.0), MassChange([1], 7.0)])
        assert there.charges.tolist() == [
            3.0,
            float(state.charges[1]),
            3.0,
            float(state.charges[3]),
        ]
        assert float(there.masses[1]) == 7.0
        assert torch.equal(there.velocities, state.velocities)
        assert float(state.masses[1]) != 7.0  # what was given stays as it was
        _, there = acted(inner, state, [Removal([1]), Addition(2, [1.0, 2, 3], 2.0, [0.0, 0, 1])])
        assert there.numbers.tolist() == [1, 3, 4, 2]
        assert there.positions[3].tolist() == [1.0, 2.0, 3.0]
        assert there.counts.tolist() == [4]
        assert numbers_before([Removal([1]), Addition(2, [0, 0, 0], 1.0)], 4) == [0, 2, 3, None]
        _, there = acted(inner, state, [Ionisation(-1.0)])
        assert float(there.total_charge) == -1.0

    def test_a_cell_is_stretched_with_all_that_is_in_it(self):
        frame = Frame(
            np.array([1]), np.array([[1.0, 2.0, 3.0]]), cell=np.diag([4.0, 5, 6]), pbc=[True] * 3
        )
        state = State.from_frame(frame, torch.float64)
        _, there = acted(VelocityVerlet(Nothing(), 0.01), state, [CellChange([2.0, 1.0, 0.5])])
        assert there.positions.tolist() == [[2.0, 2.0, 1.5]]
        assert there.cell[0].diagonal().tolist() == [8.0, 5.0, 3.0]

    def test_an_ion_is_another_molecule_to_gfn2(self):
        water = State.from_ase(molecule("H2O"), torch.float64)
        reference = GFN2()
        _, ion = acted(VelocityVerlet(reference, 0.5), water, [Ionisation("1 e")])
        gap = float(reference.evaluate(ion).energy - reference.evaluate(water).energy)
        assert 10.0 < gap < 25.0  # eV; measured 12.6, and GFN2 is several eV above

    def test_hydrogens_take_mass_from_what_they_are_bonded_to(self):
        state = State.from_smiles("CCO", dtype=torch.float64)
        state = maxwell_boltzmann(state, 300.0, MOLECULAR, 1)
        inner = VelocityVerlet(NothingMolecular(), 0.5)
        _, there = acted(inner, state, [HeavyHydrogens("3 u")])
        light = state.numbers == 1
        assert there.masses[light].tolist() == [3.0] * 6
        taken = (state.masses - there.masses)[~light] / (3.0 - float(state.masses[light][0]))
        assert taken.tolist() == pytest.approx([3.0, 2.0, 1.0])  # hydrogens of CH3, CH2 and OH
        assert float(there.masses.sum()) == pytest.approx(float(state.masses.sum()))
        momenta = [(s.masses[:, None] * s.velocities).sum(dim=0) for s in (state, there)]
        torch.testing.assert_close(momenta[1], momenta[0], atol=1e-12, rtol=0)
        # But for the drift of all, each keeps its kinetic energy.
        slower = state.velocities * (state.masses / there.masses).sqrt()[:, None]
        drift = there.velocities - slower
        torch.testing.assert_close(drift, drift[:1].expand(9, 3))
        assert float(drift.norm()) > 1e-4
        _, heavier = acted(inner, state, [MassChange(list(range(3, 9)), "3 u")])
        assert float(heavier.masses.sum()) > float(state.masses.sum()) + 10

    def test_fast_vibrations_are_slower_by_the_root_of_the_reduced_mass(self):
        """Of the O-H bond in GFN2-xTB, along which water's hydrogen is displaced."""
        water = State.from_ase(molecule("H2O"), torch.float64)
        _, heavy = acted(VelocityVerlet(NothingMolecular(), 0.5), water, [HeavyHydrogens("4 u")])
        oxygen, hydrogen = float(heavy.masses[0]), float(heavy.masses[1])
        assert oxygen == pytest.approx(15.999 - 2 * (4.0 - 1.008))
        assert hydrogen == 4.0
        reference = GFN2()
        turns = []
        for state in (water, heavy):
            axis = state.positions[1] - state.positions[0]
            moved = state.positions.clone()
            moved[1] += 0.02 * axis / axis.norm()
            start = state.moved(moved, torch.zeros_like(moved))
            propagator = VelocityVerlet(reference, 0.2)
            path = unroll(propagator, start, propagator.start(start), 60)
            lengths = [float((s.positions[1] - s.positions[0]).norm()) for s, _ in path]
            turns.append(int(np.argmin(lengths)))  # half a period, and not yet one and a half
        light = 15.999 * 1.008 / (15.999 + 1.008)
        expected = (oxygen * hydrogen / (oxygen + hydrogen) / light) ** 0.5
        assert turns[1] / turns[0] == pytest.approx(expected, rel=0.1)
        assert expected > 1.6

    @pytest.mark.parametrize(
        ("smiles", "mass", "reason"),
        [
            ("[H][H]", "3 u", "bonded to 0 heavier atoms"),
            ("C", "4 u", r"leaves 0.\d+ for particle 0"),
            ("C", "0.5 u", "weighs 1.008 already"),
        ],
    )
    def test_mass_that_nobody_has_is_not_taken(self, smiles, mass, reason):
        state = State.from_smiles(smiles, dtype=torch.float64)
        with pytest.raises(ValueError, match=reason):
            acted(VelocityVerlet(NothingMolecular(), 0.5), state, [HeavyHydrogens(mass)])
        with pytest.raises(ValueError, match="for molecules"):
            HeavyHydrogens(2.0).resolved(REDUCED)

    def test_systems_of_a_batch_are_changed_alike_and_keep_their_random_numbers(self):
        states = State.collate([chain(0), chain(1)])
        states.stream = torch.tensor([7, 9])
        _, there = acted(VelocityVerlet(Nothing(), 0.01), states, [Removal([0])])
        assert there.counts.tolist() == [3, 3]
        assert there.stream.tolist() == [7, 9]


class TestWritten:
    @pytest.mark.parametrize("action", FORCES + OTHERS, ids=lambda one: type(one).__name__)
    def test_what_is_written_down_is_read_again(self, action):
        assert actions_from(json.loads(json.dumps([action.written()]))) == [action]

    def test_quantities_have_units(self):
        given = actions_from(
            [
                {
                    "SteeredDistance": {"particles": [0, 1], "stiffness": "100 kcal/mol/Å^2"}
                    | {"begin": "1 nm", "end": 12, "duration": "1ps"}
                },
                {"UniformField": {"field": ["0.1 V/Å", 0, "1 V/nm"]}},
            ]
        )
        pull, field = (one.resolved(MOLECULAR) for one in given)
        assert pull.stiffness == pytest.approx(100 * 0.0433641, rel=1e-5)
        assert (pull.begin, pull.end, pull.duration) == (10.0, 12.0, 1000.0)
        assert field.field == pytest.approx([0.1, 0.0, 0.1])
        with pytest.raises(UnitError, match="reduced units"):
            given[0].resolved(REDUCED)
        with pytest.raises(UnitError, match="not a unit of stiffness"):
            Spring([0, 1], "1 eV/Å").resolved(MOLECULAR)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("Frozen: {particles: [0]}", "a list"),
            ("- Frozzen: {particles: [0]}", "is no action; there are Addition"),
            ("- Frozen: {atoms: [0]}", "unexpected keyword argument 'atoms'"),
            ("- Frozen: {particles: 0}", "particles of .* cannot be 0"),
            ("- Spring: {particles: [0, 0], stiffness: 1}", "2 different particles"),
            ("- ConstantForce: {particles: [0], force: [1, 2]}", "three components"),
            ("- ConstantForce: {particles: [0], force: [.nan, 0, 0]}", "must be finite"),
            ("- Frozen: {particles: [99]}", "particle 99, but system 0 has 9"),
            ("- Frozen: {particles: [-1]}", "particle -1"),
            ("- Spring: {particles: [0, 1], stiffness: 1 eV}", "not a unit of stiffness"),
            ("- UniformField: {field: [1 V/Å, 0, 0], own: me}", "own of .* cannot be 'me'"),
            ("- UniformField: {field: [1, 0, 0], charges: [1]}", "given 1 charges"),
            ("- TemperatureSchedule: {times: [0], temperatures: [300K]}", "needs a thermostat"),
            ("- TemperatureSchedule: {times: [0, 1], temperatures: [300]}", "as many times"),
            ("- TemperatureSchedule: {times: [1, 0], temperatures: [300, 1]}", "must ascend"),
            ("- ChargeChange: {particles: [0], charge: 1}", "without effect on GFN2"),
            ("- MassChange: {particles: [0], mass: 0}", "mass"),
            ("- Wall: {normal: [0, 0, 0], offset: 1, stiffness: 1}", "no direction"),
            ("- Removal: {particles: [0, 1, 2, 3, 4, 5, 6, 7, 8]}", "leaves no particle"),
            ("[", "not YAML"),
        ],
    )
    def test_what_makes_no_sense_is_told(self, content, problem, tmp_path, capsys):
        (tmp_path / "actions.yaml").write_text(content)
        start = Path(__file__).parents[1] / "datasets/ethanol_xtb/ethanol_nve.h5md"
        arguments = ["simulate", "gfn2", str(start), "2fs", "--frames", "0"]
        files = ["--actions", str(tmp_path / "actions.yaml"), "--out", str(tmp_path / "out.h5md")]
        assert main([*arguments, *files]) == 2
        error = capsys.readouterr().err
        assert re.search(problem, error), error
        assert not (tmp_path / "out.h5md").exists()

    def test_frozen_particles_and_a_thermostat_that_counts_them_are_refused(self):
        with pytest.raises(ValueError, match="use Langevin"):
            acted(CSVR(Bonds(), 0.02, 1.0, 2.0), chain(), [Frozen([0])])


class TestFiles:
    ACTIONS: ClassVar = [
        Trap([0], 1.0, [0, 0, 0], [0.3, 0, 0]),
        Frozen([2]),
        TemperatureSchedule([0], [0.7]),
    ]

    def rollout(self, path, simulator=None):
        inner = Langevin(simulator or Bonds(), 0.01, 0.7, 0.5, seed=3)
        states = State.collate([chain(0), chain(1)])
        propagator, start = acted(inner, states, self.ACTIONS)
        return Rollout(propagator, path, every=5, checkpoint_seconds=0.0), start

    def test_a_run_that_was_interrupted_in_the_middle_ends_as_the_whole_one(self, tmp_path):
        class Stopped(Bonds):
            calls = 0

            def evaluate(self, state, stress=False):
                self.calls += 1
                if self.calls == 50:
                    signal.raise_signal(signal.SIGINT)
                return super().evaluate(state, stress)

        whole, start = self.rollout(tmp_path / "whole.h5md")
        whole.run(start, 100)
        broken, start = self.rollout(tmp_path / "broken.h5md", Stopped())
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                broken.run(start, 100)
        finally:
            signal.signal(signal.SIGINT, before)
        again, start = self.rollout(tmp_path / "broken.h5md")
        again.run(start, 100, resume=True)
        with H5MDFile(tmp_path / "whole.h5md") as one, H5MDFile(tmp_path / "broken.h5md") as other:
            for here, there in zip(one.trajectories, other.trajectories, strict=True):
                assert len(here) == len(there) == 21
                for k in range(21):
                    np.testing.assert_array_equal(here.frame(k).positions, there.frame(k).positions)
                    assert here.frame(k).properties == there.frame(k).properties
                assert here.frame(20).properties["work"] != 0.0
            written = json.loads(one.parameters["actions"])
        assert actions_from(written) == [one.resolved(REDUCED) for one in self.ACTIONS]

    def test_another_action_is_another_run(self, tmp_path):
        rollout, start = self.rollout(tmp_path / "out.h5md")
        rollout.run(start, 10)
        inner = Langevin(Bonds(), 0.01, 0.7, 0.5, seed=3)
        propagator, start = acted(inner, State.collate([chain(0), chain(1)]), self.ACTIONS[:2])
        with pytest.raises(ValueError, match="belongs to another run"):
            Rollout(propagator, tmp_path / "out.h5md", every=5).run(start, 20, resume=True)

    def test_the_command_acts_on_worlds_and_references_by_the_same_code(self, tmp_path):
        """A hydrogen of ethanol's hydroxyl is turned half around the C-O bond."""
        start = Path(__file__).parents[1] / "datasets/ethanol_xtb/ethanol_nve.h5md"
        with H5MDFile(start) as file:
            first = file.trajectories[0].frame(0)
        points = first.positions
        numbers = torsion_of_the_hydroxyl(first)
        at = np.degrees(
            float(
                SteeredTorsion(numbers, 1.0, 1.0, 0.0, 1.0).coordinate(
                    torch.tensor(points[numbers])[None]
                )[0]
            )
        )
        action = SteeredTorsion(numbers, "50 fs", "5 eV", float(at), float(at) + 120.0)
        file = tmp_path / "turn.yaml"
        file.write_text(json.dumps([action.written()]))
        for model, name in (("organic", "world"), ("gfn2", "truth")):
            out = tmp_path / f"{name}.h5md"
            arguments = ["simulate", model, start, "60fs", "--frames", "0", "--actions", file]
            assert main([*map(str, arguments), "--out", str(out)]) == 0
            with H5MDFile(out) as done:
                end = done.trajectories[0].frame(len(done.trajectories[0]) - 1)
            turned = action.coordinate(torch.tensor(end.positions[numbers])[None])[0]
            way = (np.degrees(float(turned)) - at) % 360
            assert way == pytest.approx(120.0, abs=25.0)
            assert end.properties["work"] > 0.02


def torsion_of_the_hydroxyl(frame):
    """The numbers of H-O-C-C in ethanol."""
    distances = np.linalg.norm(frame.positions[:, None] - frame.positions, axis=-1)
    oxygen = int(np.flatnonzero(frame.numbers == 8)[0])
    hydrogen = min(np.flatnonzero(frame.numbers == 1), key=lambda k: distances[oxygen, k])
    near, far = sorted(np.flatnonzero(frame.numbers == 6), key=lambda k: distances[oxygen, k])
    return [int(hydrogen), oxygen, int(near), int(far)]
