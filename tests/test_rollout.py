"""Rollouts simulate many systems at once, stop the ones that fail, and resume exactly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.cluster import Octahedron
from conftest import springs, water
from torch.utils._python_dispatch import TorchDispatchMode

from sciwm.core.frame import Frame
from sciwm.core.state import State, frame_from_ase
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.h5md import H5MDFile
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.statistics import survey
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import CSVR, Langevin, Propagator, VelocityVerlet
from sciwm.simulation.references.ase_potentials import emt, lennard_jones
from sciwm.simulation.rollout import Rollout, unroll
from sciwm.simulation.rollout.stability import Finiteness
from sciwm.simulation.simulator import Evaluation, SimulatorError
from sciwm.simulation.velocities import maxwell_boltzmann


class Springs:
    """Springs of length 1 between all atoms of a system."""

    units = REDUCED

    def __init__(self, stiffness=20.0):
        self.stiffness = stiffness

    def evaluate(self, state, stress=False):
        arms = state.positions[:, None] - state.positions[None]
        bonded = state.batch[:, None] == state.batch[None]
        bonded = bonded & ~torch.eye(len(bonded), dtype=torch.bool)
        lengths = torch.where(bonded, arms.norm(dim=-1), 1.0)
        stretch = (lengths - 1.0) * bonded
        energies = 0.25 * self.stiffness * stretch.square().sum(1)
        total = energies.new_zeros(state.n_systems).index_add_(0, state.batch, energies)
        forces = -self.stiffness * ((stretch / lengths)[..., None] * arms).sum(1)
        return Evaluation(total, forces)

    def outside(self, state, evaluation):
        return {}


class Fenced(Springs):
    """Does not trust itself where a system reaches beyond a radius."""

    def __init__(self, radius):
        super().__init__()
        self.radius = radius

    def outside(self, state, evaluation):
        beyond = state.positions.norm(dim=-1) > self.radius
        return {int(s): "beyond the fence" for s in state.batch[beyond].unique()}


class Faulty(Springs):
    """Has no energy for systems of a size once the clock reaches a step; or gives NaN instead."""

    def __init__(self, size, calls, nan=False):
        super().__init__()
        self.size, self.calls, self.nan = size, calls, nan

    def evaluate(self, state, stress=False):
        self.calls -= 1
        found = super().evaluate(state)
        for s, n in enumerate(state.counts.tolist()):
            if self.calls < 0 and n == self.size:
                if not self.nan:
                    raise SimulatorError(f"no energy for {n} atoms", s)
                found.forces[state.batch == s] = torch.nan
        return found


class SinglePrecision(Springs):
    """Forces in float32 and energies in float64, with a large constant, as learned models give."""

    def evaluate(self, state, stress=False):
        found = super().evaluate(state)
        return Evaluation(found.energy.double() - 1e5, found.forces.float())


class Interrupted(Springs):
    """Ctrl-C at a certain evaluation."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def evaluate(self, state, stress=False):
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt
        return super().evaluate(state)


def systems(sizes=(3, 5, 4), speed=0.3):
    found = []
    for seed, n in enumerate(sizes):
        generator = np.random.default_rng(seed)
        frame = Frame(
            numbers=np.arange(n) + 1,
            positions=generator.normal(size=(n, 3)),
            velocities=speed * generator.normal(size=(n, 3)),
            masses=generator.uniform(1.0, 2.0, n),
        )
        found.append(State.from_frame(frame, torch.float64))
    return State.collate(found)


def verlet(simulator):
    return VelocityVerlet(simulator, 0.02)


def langevin(simulator):
    return Langevin(simulator, 0.02, 0.5, 1.0, seed=3)


def csvr(simulator):
    return CSVR(simulator, 0.02, 0.5, 0.2, seed=3)


PROPAGATORS = [verlet, langevin, csvr]


def difference(result, other):
    """Largest difference of two final states."""
    return max(
        float((result.state[key] - other.state[key]).abs().max())
        for key in ("positions", "velocities", "forces", "energy")
    )


def contents(path, names=("system0", "system1", "system2")):
    """Everything in the frames of a file."""
    found = {}
    with h5py.File(path) as file:
        for name in names:
            for element in ("position", "velocity", "force"):
                found[name, element] = file[f"particles/{name}/{element}/value"][:]
            found[name, "energy"] = file[f"observables/{name}/potential_energy/value"][:]
            found[name, "step"] = file[f"particles/{name}/position/step"][:]
    return found


def same_contents(path, other):
    one, two = contents(path), contents(other)
    return all(np.array_equal(one[key], two[key]) for key in one)


class TestRunning:
    @pytest.mark.parametrize("make", PROPAGATORS)
    def test_it_is_the_propagators_strides_one_after_another(self, make):
        state, simulator = systems(), Springs()
        result = Rollout(make(simulator)).run(state, 30)
        propagator = make(simulator)
        *_, (state, evaluation) = unroll(propagator, state, propagator.start(state), 30)
        assert torch.equal(result.state.positions, state.positions)
        assert torch.equal(result.state.velocities, state.velocities)
        assert torch.equal(result.state.energy, evaluation.energy)
        assert result.steps == [30, 30, 30]
        assert result.reasons == [None, None, None]

    def test_frames_hold_the_start_and_every_so_many_steps(self):
        state = systems()
        frames = Rollout(verlet(Springs()), every=10).run(state, 35).frames
        assert [len(one) for one in frames] == [4, 4, 4]
        assert [frame.step for frame in frames[1]] == [0, 10, 20, 30]
        assert [frame.time for frame in frames[1]] == pytest.approx([0.0, 0.2, 0.4, 0.6])
        assert np.array_equal(frames[1][0].positions, state.system(1).positions.numpy())
        at_20 = Rollout(verlet(Springs())).run(state, 20).state.system(1)
        assert np.array_equal(frames[1][2].positions, at_20.positions.numpy())
        assert np.array_equal(frames[1][2].forces, at_20.forces.numpy())
        assert frames[1][2].energy == float(at_20.energy[0])

    def test_the_state_it_starts_from_is_left_alone(self):
        state = systems()
        before = state.clone()
        Rollout(verlet(Springs())).run(state, 5)
        assert torch.equal(state.positions, before.positions)
        assert torch.equal(state.velocities, before.velocities)
        assert "energy" not in state

    def test_energy_is_conserved_by_metal_in_a_box_and_in_vacuum(self):
        atoms = [bulk("Cu", cubic=True), Octahedron("Au", 3)]
        start = maxwell_boltzmann(State.from_ase(atoms, torch.float64), 600.0, MOLECULAR)
        frames = Rollout(VelocityVerlet(emt(), 2.0), every=10).run(start, 100).frames
        for one in frames:
            kinetic = [
                0.5 * (f.masses[:, None] * f.velocities**2).sum() / MOLECULAR.acceleration
                for f in one
            ]
            total = np.array([f.energy for f in one]) + kinetic
            assert np.ptp(total) < 0.01 * np.mean(kinetic)
            assert np.ptp(kinetic) > 0.1 * np.mean(kinetic)  # or the line above shows nothing

    def test_frames_so_many_steps_apart_are_at_least_one(self):
        with pytest.raises(ValueError, match="every=0"):
            Rollout(verlet(Springs()), every=0)


class TestStopping:
    def test_a_system_that_blows_up_stops_with_a_diagnosis(self):
        # A spring is stable up to a step of 2/ω; 27 atoms on springs swing faster than 3.
        stiff = Springs(stiffness=4.0)
        state = systems((2, 3, 27), speed=0.1)
        result = Rollout(VelocityVerlet(stiff, 0.25), every=5).run(state, 400)
        assert result.steps[:2] == [400, 400]
        assert 0 < result.steps[2] < 400
        assert result.reasons[:2] == [None, None]
        assert "blew up in step" in result.reasons[2]
        assert "shorter step than 0.25" in result.reasons[2]
        assert torch.isfinite(result.state.positions).all()
        assert len(result.frames[2]) == result.steps[2] // 5 + 1

    @pytest.mark.parametrize(("kind", "rate"), [(Langevin, 0.1), (CSVR, 1.0)])
    def test_heating_far_beyond_the_thermostat_is_a_blow_up(self, kind, rate):
        propagator = kind(Springs(4.0), 0.25, 0.5, rate)
        result = Rollout(propagator).run(systems((2, 27)), 400)
        assert result.reasons[0] is None
        assert "(75 is allowed)" not in result.reasons[1]
        assert "blew up in step" in result.reasons[1]

    @pytest.mark.parametrize("make", PROPAGATORS)
    def test_the_others_go_on_as_if_it_had_never_been_there(self, make):
        state = systems()
        whole = Rollout(make(Faulty(5, calls=20)), every=4).run(state, 50)
        assert whole.steps == [50, 19, 50]
        assert whole.reasons[1] == "no energy for 5 atoms"
        healthy = Rollout(make(Springs()), every=4).run(state, 50)
        for s in (0, 2):
            own, other = whole.state.system(s), healthy.state.system(s)
            assert torch.allclose(own.positions, other.positions, atol=1e-10)
            assert torch.allclose(own.velocities, other.velocities, atol=1e-10)
        # And the one that stopped is where it was last trusted.
        until = Rollout(make(Springs())).run(state, 19).state.system(1)
        assert torch.equal(whole.state.system(1).positions, until.positions)

    def test_forces_that_are_not_finite_stop_a_system(self):
        result = Rollout(VelocityVerlet(Faulty(5, calls=20, nan=True), 0.02)).run(systems(), 50)
        assert result.steps == [50, 19, 50]
        assert "blew up in step 20" in result.reasons[1]
        assert torch.isfinite(result.state.forces).all()

    @pytest.mark.parametrize("nan", [False, True])
    def test_a_system_without_energy_never_starts(self, nan, tmp_path):
        path = tmp_path / "run.h5md"
        simulator = Faulty(5, calls=0, nan=nan)
        result = Rollout(VelocityVerlet(simulator, 0.02), path).run(systems(), 10)
        assert result.steps == [10, 0, 10]
        assert result.reasons[1] is not None
        with H5MDFile(path) as file:
            assert sorted(t.name for t in file.trajectories) == ["system0", "system2"]

    def test_leaving_the_domain_stops_a_system_before_the_frame_is_written(self):
        state = systems(speed=2.0)
        free = Rollout(verlet(Springs()), every=5).run(state, 100)
        reached = [
            max(np.linalg.norm(f.positions, axis=1).max() for f in one) for one in free.frames
        ]
        start = float(state.positions.norm(dim=-1).max())
        assert max(reached) > start
        radius = 0.5 * (start + max(reached))
        result = Rollout(VelocityVerlet(Fenced(radius), 0.02), every=5).run(state, 100)
        stopped = [s for s, reason in enumerate(result.reasons) if reason]
        assert stopped
        for s, frames in enumerate(result.frames):
            for frame in frames:
                assert np.linalg.norm(frame.positions, axis=1).max() <= radius
            if s in stopped:
                assert "left the simulator's domain: beyond the fence" in result.reasons[s]
                later = free.frames[s][len(frames)]
                assert np.linalg.norm(later.positions, axis=1).max() > radius

    def test_a_run_ends_when_all_systems_have_stopped(self):
        result = Rollout(VelocityVerlet(Faulty(3, calls=20), 0.02)).run(systems((3, 3)), 50)
        assert result.steps == [19, 19]
        assert None not in result.reasons


class Coasting(Propagator):
    """Straight motion: moves states, and knows of no energy."""

    stride = 0.5
    units = REDUCED
    conserves = frozenset({"momentum"})
    temperature = None
    parameters: ClassVar = {"integrator": "straight motion", "dt": 0.5}
    origin = ("Coasting", "")

    def __init__(self, gain=1.0):
        self.gain = gain

    def start(self, state):
        return None

    def advance(self, state, evaluation, index):
        return state.moved(
            state.positions + 0.5 * state.velocities, self.gain * state.velocities
        ), None

    def outside(self, state, evaluation):
        return {}

    def select(self, keep):
        return self


class TestMotionWithoutEnergies:
    def test_it_is_written_resumed_and_has_no_labels(self, tmp_path):
        state, path = systems(), tmp_path / "run.h5md"
        whole = Rollout(Coasting(), every=2).run(state, 20)
        rollout = Rollout(Coasting(), path, every=2)
        rollout.run(state, 7)
        result = rollout.run(state, 20, resume=True)
        assert torch.equal(result.state.positions, whole.state.positions)
        assert torch.allclose(result.state.positions, state.positions + 10 * state.velocities)
        assert "energy" not in result.state
        assert "forces" not in result.state
        with H5MDFile(path) as file:
            assert [len(one) for one in file.trajectories] == [11, 11, 11]
            for one, frames in zip(file.trajectories, whole.frames, strict=True):
                read = one.frame(10)
                assert read.energy is None
                assert read.forces is None
                assert np.array_equal(read.positions, frames[10].positions)

    def test_a_system_that_heats_up_without_end_stops(self):
        result = Rollout(Coasting(gain=1.5)).run(systems(), 40)
        assert all("blew up" in reason and "energy" not in reason for reason in result.reasons)

    def test_numbers_that_are_none_stop_it_whatever_guards_it(self):
        result = Rollout(Coasting(gain=1e200), guard=Finiteness()).run(systems(), 40)
        assert all("no longer finite" in reason for reason in result.reasons)
        assert result.state.positions.isfinite().all()


class TestFiles:
    def test_the_file_holds_what_memory_holds(self, tmp_path):
        state, path = systems(), tmp_path / "run.h5md"
        names = ["ring", "cage", "chain"]
        Rollout(langevin(Springs()), path, every=10).run(state, 40, names=names)
        frames = Rollout(langevin(Springs()), every=10).run(state, 40).frames
        with H5MDFile(path) as file:
            for name, expected in zip(names, frames, strict=True):
                (trajectory,) = (t for t in file.trajectories if t.name == name)
                assert len(trajectory) == 5
                for k, frame in enumerate(expected):
                    read = trajectory.frame(k)
                    assert np.allclose(read.positions, frame.positions, atol=1e-12)
                    assert np.allclose(read.velocities, frame.velocities, atol=1e-12)
                    assert np.allclose(read.forces, frame.forces, atol=1e-12)
                    assert read.energy == pytest.approx(frame.energy)
                    assert (read.step, read.time) == (frame.step, pytest.approx(frame.time))

    def test_the_file_says_how_it_was_made(self, tmp_path):
        path = tmp_path / "run.h5md"
        Rollout(Langevin(Springs(), 0.02, 0.5, 1.0, seed=9), path).run(systems(), 2)
        with h5py.File(path) as file:
            notes = json.loads(file["parameters/sciwm/settings"][()])
        assert notes["integrator"] == "Langevin BAOAB"
        assert (notes["dt"], notes["temperature"], notes["seed"]) == (0.02, 0.5, 9)
        assert notes["simulator"] == "Springs"

    def test_positions_run_on_through_the_walls_of_a_box(self, tmp_path):
        path = tmp_path / "run.h5md"
        frame = Frame(
            numbers=np.array([18, 18]),
            positions=np.array([[0.5, 1, 1], [2.5, 3, 3]]),
            velocities=np.array([[0.1, 0, 0], [0.1, 0, 0]]),
            cell=4.0 * np.eye(3),
            pbc=np.ones(3, dtype=bool),
        )
        state = State.from_frame(frame, torch.float64)
        simulator = Springs(stiffness=0.0)
        Rollout(VelocityVerlet(simulator, 1.0), path, every=50).run(state, 100)
        with H5MDFile(path) as file:
            last = file.trajectories[0].frame(2)
        assert last.positions[0, 0] == pytest.approx(10.5)

    @pytest.mark.parametrize("dimension", [2, 3])
    def test_frames_know_whether_they_are_of_a_plane(self, tmp_path, dimension):
        """Or a motion in a plane would leave it when it goes on from one."""
        frame = Frame(
            numbers=np.ones(2, dtype=np.int64), positions=np.eye(2, 3), dimension=dimension
        )
        state, path = State.from_frame(frame, torch.float64), tmp_path / "run.h5md"
        Rollout(langevin(Springs()), path, every=5).run(state, 5)
        (kept,) = Rollout(langevin(Springs()), every=5).run(state, 5).frames
        with H5MDFile(path) as file:
            read = file.trajectories[0].frame(1)
        assert (kept[-1].dimension, read.dimension) == (dimension, dimension)
        on = Rollout(langevin(Springs()), every=5).run(State.from_frame(kept[-1], torch.float64), 5)
        assert (np.abs(on.frames[0][-1].positions[:, 2]).max() > 0) == (dimension == 3)

    def test_an_output_that_exists_is_not_overwritten(self, tmp_path):
        path = tmp_path / "run.h5md"
        rollout = Rollout(verlet(Springs()), path)
        rollout.run(systems(), 2)
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match="resume it, move it or remove it"):
            rollout.run(systems(), 2)
        assert path.read_bytes() == before

    def test_names_must_differ(self):
        with pytest.raises(ValueError, match="3 systems need as many different names"):
            Rollout(verlet(Springs())).run(systems(), 2, names=["a", "a", "b"])


class TestResuming:
    @pytest.mark.parametrize("make", PROPAGATORS)
    def test_a_run_in_two_parts_is_the_run_in_one(self, make, tmp_path):
        state = systems()
        whole = Rollout(make(Springs()), tmp_path / "whole.h5md", every=7).run(state, 60)
        parts = Rollout(make(Springs()), tmp_path / "parts.h5md", every=7)
        parts.run(state, 25)
        result = parts.run(state, 60, resume=True)
        assert difference(whole, result) == 0.0
        assert result.steps == [60, 60, 60]
        assert same_contents(tmp_path / "whole.h5md", tmp_path / "parts.h5md")

    def test_the_check_catches_a_run_that_forgot_its_place(self, tmp_path):
        class Forgetful(Langevin):
            """Takes its noise from the start again in every part of a run."""

            def __init__(self, *args):
                super().__init__(*args)
                self.taken = 0

            def advance(self, state, evaluation, index):
                self.taken += 1
                return super().advance(state, evaluation, self.taken)

        state = systems()
        settings = (0.02, 0.5, 1.0)
        whole = Rollout(Forgetful(Springs(), *settings), tmp_path / "whole.h5md").run(state, 60)
        Rollout(Forgetful(Springs(), *settings), tmp_path / "parts.h5md").run(state, 25)
        result = Rollout(Forgetful(Springs(), *settings), tmp_path / "parts.h5md").run(
            state, 60, resume=True
        )
        assert difference(whole, result) > 1e-3

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_forces_and_states_may_differ_in_precision(self, dtype, tmp_path):
        state = systems()
        for key in ("positions", "velocities", "masses"):
            state[key] = state[key].to(dtype)
        simulator = SinglePrecision()
        whole = Rollout(langevin(simulator), tmp_path / "whole.h5md").run(state, 60)
        parts = Rollout(langevin(simulator), tmp_path / "parts.h5md")
        parts.run(state, 25)
        result = parts.run(state, 60, resume=True)
        assert difference(whole, result) == 0.0
        assert same_contents(tmp_path / "whole.h5md", tmp_path / "parts.h5md")
        assert result.state.positions.dtype == dtype
        assert result.state.energy.dtype == torch.float64
        double = Rollout(langevin(Springs())).run(systems(), 60).state
        assert torch.allclose(result.state.positions.double(), double.positions, atol=1e-3)
        assert torch.allclose(result.state.energy + 1e5, double.energy, atol=1e-3)

    def test_what_stopped_before_stays_stopped(self, tmp_path):
        state = systems()
        path = tmp_path / "run.h5md"
        first = Rollout(VelocityVerlet(Faulty(5, calls=20), 0.02), path).run(state, 30)
        result = Rollout(verlet(Springs()), path).run(state, 60, resume=True)
        assert result.steps == [60, 19, 60]
        assert result.reasons == first.reasons
        with H5MDFile(path) as file:
            lengths = {t.name: len(t) for t in file.trajectories}
        assert lengths == {"system0": 61, "system1": 20, "system2": 61}

    def test_frames_after_the_checkpoint_are_written_anew(self, tmp_path):
        state = systems()
        path, whole = tmp_path / "run.h5md", tmp_path / "whole.h5md"
        Rollout(langevin(Springs()), whole).run(state, 60)
        rollout = Rollout(langevin(Springs()), path)
        rollout.run(state, 20)
        old = (tmp_path / "run.h5md.checkpoint.npz").read_bytes()
        rollout.run(state, 45, resume=True)
        (tmp_path / "run.h5md.checkpoint.npz").write_bytes(old)
        rollout.run(state, 60, resume=True)
        assert same_contents(path, whole)

    def test_ctrl_c_writes_what_is_done(self, tmp_path):
        state = systems()
        path, whole = tmp_path / "run.h5md", tmp_path / "whole.h5md"
        Rollout(verlet(Springs()), whole).run(state, 60)
        with pytest.raises(KeyboardInterrupt):
            Rollout(VelocityVerlet(Interrupted(31), 0.02), path).run(state, 60)
        with H5MDFile(path) as file:
            assert [len(t) for t in file.trajectories] == [30, 30, 30]
        Rollout(verlet(Springs()), path).run(state, 60, resume=True)
        assert same_contents(path, whole)

    def test_a_run_that_ended_in_its_first_step_starts_again(self, tmp_path):
        path = tmp_path / "run.h5md"
        with pytest.raises(KeyboardInterrupt):
            Rollout(VelocityVerlet(Interrupted(2), 0.02), path).run(systems(), 60)
        result = Rollout(verlet(Springs()), path).run(systems(), 5, resume=True)
        assert result.steps == [5, 5, 5]
        with H5MDFile(path) as file:
            assert [len(t) for t in file.trajectories] == [6, 6, 6]

    def test_resuming_nothing_starts(self, tmp_path):
        path = tmp_path / "run.h5md"
        result = Rollout(verlet(Springs()), path).run(systems(), 5, resume=True)
        assert result.steps == [5, 5, 5]

    def test_another_run_is_not_continued(self, tmp_path):
        path = tmp_path / "run.h5md"
        Rollout(Langevin(Springs(), 0.02, 0.5, 1.0), path).run(systems(), 5)
        for other, start in (
            (Langevin(Springs(), 0.02, 0.6, 1.0), systems()),
            (Langevin(Springs(), 0.02, 0.5, 1.0, seed=1), systems()),
            (Langevin(Springs(), 0.02, 0.5, 1.0), systems(speed=0.4)),
        ):
            with pytest.raises(ValueError, match="belongs to another run"):
                Rollout(other, path).run(start, 10, resume=True)

    def test_another_simulator_does_not_continue_it(self, tmp_path):
        path = tmp_path / "run.h5md"
        state = State.from_frame(frame_from_ase(bulk("Cu", cubic=True)))
        close = [lennard_jones(2.3, epsilon, 3.5, MOLECULAR) for epsilon in (0.4, 0.5)]
        Rollout(VelocityVerlet(close[0], 1.0), path).run(state, 2)
        for other in (close[1], emt()):
            with pytest.raises(ValueError, match="belongs to another run"):
                Rollout(VelocityVerlet(other, 1.0), path).run(state, 4, resume=True)
        again = lennard_jones(2.3, 0.4, 3.5, MOLECULAR)
        Rollout(VelocityVerlet(again, 1.0), path).run(state, 4, resume=True)
        with h5py.File(path) as file:
            made_by = json.loads(file["parameters/sciwm/settings"][()])["simulator_fingerprint"]
        assert made_by.startswith("LennardJones ")
        assert "epsilon=0.4" in made_by

    def test_a_file_that_no_run_wrote_is_left_alone(self, tmp_path):
        path = tmp_path / "run.h5md"
        path.write_bytes(b"precious")
        with pytest.raises(ValueError, match="no checkpoint"):
            Rollout(verlet(Springs()), path).run(systems(), 5, resume=True)
        assert path.read_bytes() == b"precious"

    def test_a_file_that_lost_frames_is_not_continued(self, tmp_path):
        path = tmp_path / "run.h5md"
        rollout = Rollout(verlet(Springs()), path)
        rollout.run(systems(), 5)
        checkpoint = (tmp_path / "run.h5md.checkpoint.npz").read_bytes()
        path.unlink()
        rollout.run(systems(), 2)
        (tmp_path / "run.h5md.checkpoint.npz").write_bytes(checkpoint)
        with pytest.raises(ValueError, match=r"holds 3 frames of 'system0'.*knows 6"):
            rollout.run(systems(), 10, resume=True)

    def test_a_killed_run_resumes_exactly(self, tmp_path):
        path, whole = tmp_path / "run.h5md", tmp_path / "whole.h5md"
        rollout(whole).run(systems(), KILLED_STEPS)
        generator = np.random.default_rng(0)
        for _ in range(3):
            child = subprocess.Popen([sys.executable, __file__, str(path)], env=environment())
            reached = wait_for_new_frames(path, child)
            time.sleep(generator.uniform(0.0, 0.1))
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            assert reached
        result = rollout(path).run(systems(), KILLED_STEPS, resume=True)
        assert result.steps == [KILLED_STEPS] * 3
        assert same_contents(path, whole)


KILLED_STEPS = 2000


def rollout(path, simulator=None, checkpoint_seconds=30.0):
    """The run that is killed again and again."""
    propagator = Langevin(simulator or Springs(), 0.02, 0.5, 1.0, seed=1)
    return Rollout(propagator, path, 3, checkpoint_seconds)


def environment():
    root = Path(__file__).parents[1]
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def wait_for_new_frames(path, child):
    """Whether the child got to write a checkpoint of its own before it ended."""
    checkpoint = Path(f"{path}.checkpoint.npz")
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    for _ in range(3000):
        now = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        if now and now != before:
            return child.poll() is None
        if child.poll() is not None:
            return False
        time.sleep(0.01)
    return False


class Slow(Springs):
    """Leaves time to be killed in."""

    def evaluate(self, state, stress=False):
        time.sleep(0.002)
        return super().evaluate(state, stress)


if __name__ == "__main__":
    rollout(Path(sys.argv[1]), Slow(), 0.02).run(systems(), KILLED_STEPS, resume=True)


class CountedOperations(TorchDispatchMode):
    """How many operations torch did."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations_of_a_step(model, make, dtype):
    """Beside those of the model: what a step of small molecules waits for."""
    frame = springs(water())
    state = maxwell_boltzmann(State.from_frame(frame, dtype), 300.0, MOLECULAR)
    simulator = LearnedSimulator(model)
    recognised = simulator._recognised(state)
    table = simulator._neighbours.update(recognised)
    with CountedOperations() as alone:
        model(recognised, table)
    counts = []
    for steps in (10, 20):
        with CountedOperations() as together:
            Rollout(make(simulator), every=1000).run(state, steps)
        counts.append(together.count)
    return (counts[1] - counts[0]) / 10 - alone.count


@pytest.mark.parametrize(
    ("kind", "settings", "limit"), [(VelocityVerlet, (), 33), (Langevin, (300.0, 0.01), 40)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_costs_few_operations_beside_the_model(kind, settings, limit, dtype):
    model = ForceField(
        Encoder(3.0, channels=4, lmax=1, layers=1), reference_energies={"H": 0.0, "O": 0.0}
    )
    frames = [springs(water(i)) for i in range(4)]
    model.adapt(survey(frames, 3.0, model.units, model.reference_table()))
    model.scale.mul_(1e-3)  # untrained forces would blow it up
    assert operations_of_a_step(model, lambda one: kind(one, 0.1, *settings), dtype) <= limit
