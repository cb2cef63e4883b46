"""Several steps in one, strides that are accepted or refused, and learned maps."""

import copy
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

import sciwm
from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.properties import property_field
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data import FrameData, WindowData
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.evaluation.checks.flow import conservation_checks, symmetry_checks
from sciwm.interfaces.motion import MotionSettings
from sciwm.models import FlowMap, MotionEncoder, archive
from sciwm.models.archive import Archive
from sciwm.models.dynamics.stride_map import MotionScales
from sciwm.models.programs.stride_program import CompiledStrideMap
from sciwm.models.statistics import survey
from sciwm.simulation.actions import (
    ConstantForce,
    During,
    Frozen,
    Kicked,
    MassChange,
    TemperatureSchedule,
    UniformField,
    Wall,
    acted,
)
from sciwm.simulation.actions import Trap as TrapAction
from sciwm.simulation.actions.action import TimeWindow
from sciwm.simulation.propagators import (
    CSVR,
    GHMC,
    RESPA,
    FlowPropagator,
    LangevinSplitting,
    VelocityVerlet,
)
from sciwm.simulation.rollout import Rollout, unroll
from sciwm.simulation.simulator import Evaluation
from sciwm.simulation.velocities import kinetic_energy, maxwell_boltzmann
from sciwm.training.flow_task import FlowTask, squared_errors


class Springs:
    """Stiff springs between neighbours of a chain, and soft ones between all others."""

    units = REDUCED

    def __init__(self, stiff=400.0, soft=1.0):
        self.stiff, self.soft, self.calls = stiff, soft, 0

    def evaluate(self, state, stress=False):
        self.calls += 1
        n = int(state.counts[0])
        i, j = torch.triu_indices(n, n, 1)
        i, j = ((one + n * torch.arange(state.n_systems)[:, None]).flatten() for one in (i, j))
        strength = torch.where(j - i == 1, self.stiff, self.soft).to(state.positions)
        with torch.enable_grad():
            positions = state.positions.detach().requires_grad_()
            stretch = (positions[i] - positions[j]).norm(dim=-1) - (j - i).to(positions)
            energies = 0.5 * strength * stretch**2
            total = energies.new_zeros(state.n_systems).index_add_(0, state.batch[i], energies)
            (gradient,) = torch.autograd.grad(total.sum(), positions)
        return Evaluation(total.detach(), -gradient)

    def outside(self, state, evaluation):
        return {}


class Trap:
    """Every particle on a spring of its own to the origin: k x² / 2."""

    units = REDUCED

    def __init__(self, stiffness=1.0):
        self.stiffness = stiffness

    def evaluate(self, state, stress=False):
        each = 0.5 * self.stiffness * state.positions.square().sum(-1)
        total = each.new_zeros(state.n_systems).index_add_(0, state.batch, each)
        return Evaluation(total, -self.stiffness * state.positions)

    def outside(self, state, evaluation):
        return {}


def chain(n=4, systems=1, seed=0):
    rng = np.random.default_rng(seed)
    frames = [
        Frame(
            numbers=np.arange(n) % 2,
            positions=np.arange(n)[:, None] * [1.0, 0.0, 0.0] + 0.02 * rng.standard_normal((n, 3)),
            velocities=0.3 * rng.standard_normal((n, 3)),
            masses=1.0 + np.arange(n),
        )
        for _ in range(systems)
    ]
    return State.collate([State.from_frame(one, torch.float64) for one in frames])


def end(propagator, state, steps):
    last = state
    for one, _ in unroll(propagator, state, propagator.start(state), steps):
        last = one
    return last


def energy(simulator, state):
    return float(simulator.evaluate(state).energy[0] + kinetic_energy(state, REDUCED)[0])


def worst_energy_error(propagator, simulator, steps):
    state = chain()
    first = energy(simulator, state)
    path = unroll(propagator, state, propagator.start(state), steps)
    return max(abs(energy(simulator, one) - first) for one, _ in path)


def respa(dt, steps, kind=RESPA, cheap=None):
    return kind(Springs(), cheap or Springs(soft=0.0), dt, steps)


class ForgetfulRESPA(RESPA):
    """Kicks by the whole dear force, on top of the cheap one."""

    def _corrected(self, state, dear, cheap):
        return torch.addcdiv(
            state.velocities, dear.forces, state.masses[:, None], value=self.impulse
        )


class TestRESPA:
    def test_cheap_forces_that_are_the_dear_ones_give_velocity_verlet(self):
        exact = Springs()
        one = end(RESPA(exact, Springs(), 0.08, 4), chain(), 25)
        other = end(VelocityVerlet(exact, 0.02), chain(), 100)
        assert torch.allclose(one.positions, other.positions, atol=1e-10)
        assert torch.allclose(one.velocities, other.velocities, atol=1e-10)

    @pytest.mark.parametrize(("kind", "second"), [(RESPA, True), (ForgetfulRESPA, False)])
    def test_the_error_falls_with_the_square_of_the_stride(self, kind, second):
        """Of the dear motion, whatever the cheap forces; and a map that forgets them has no order."""
        errors = [
            worst_energy_error(respa(dt, 8, kind), Springs(), round(4 / dt)) for dt in (0.08, 0.04)
        ]
        assert (3.0 < errors[0] / errors[1] < 5.5) == second

    def test_stiff_springs_are_no_limit_of_the_stride(self):
        """Verlet at that step flies apart."""
        assert worst_energy_error(respa(0.12, 12), Springs(), 200) < 0.02
        assert not worst_energy_error(VelocityVerlet(Springs(), 0.12), Springs(), 200) < 10.0

    def test_turned_velocities_lead_back(self):
        start = chain()
        there = end(respa(0.1, 6), start, 30)
        back = end(respa(0.1, 6), there.moved(there.positions, -there.velocities), 30)
        assert torch.allclose(back.positions, start.positions, atol=1e-9)

    def test_each_stride_asks_the_dear_forces_once(self):
        dear, cheap = Springs(), Springs(soft=0.0)
        end(RESPA(dear, cheap, 0.1, 5), chain(), 10)
        assert dear.calls == 11
        assert cheap.calls == 51

    def test_momenta_stay(self):
        start = chain()
        there = end(respa(0.1, 5), start, 20)

        def momenta(state):
            each = state.masses[:, None] * state.velocities
            return each.sum(0), torch.linalg.cross(state.positions, each).sum(0)

        for one, other in zip(momenta(start), momenta(there), strict=True):
            assert torch.allclose(one, other, atol=1e-11)

    def test_units_that_differ_are_refused(self):
        other = Springs()
        other.units = MOLECULAR
        with pytest.raises(ValueError, match="units"):
            RESPA(Springs(), other, 0.1, 5)

    def test_no_steps_are_refused(self):
        with pytest.raises(ValueError, match="steps"):
            RESPA(Springs(), Springs(), 0.1, 0)


class Metropolis(GHMC):
    """Refuses nothing."""

    def _draws(self, index, state):
        return torch.zeros(state.n_systems, dtype=torch.float64)


def trapped(n=400):
    frame = Frame(numbers=np.zeros(1, int), positions=np.full((1, 3), 0.1), masses=np.ones(1))
    return State.collate([State.from_frame(frame, torch.float64)] * n)


class TestGHMC:
    @pytest.mark.parametrize(("kind", "right"), [(GHMC, True), (Metropolis, False)])
    def test_positions_are_canonical_at_a_stride_that_distorts_them(self, kind, right):
        """At 1.5 over the frequency velocity Verlet samples a well that is half as steep."""
        motion = kind(VelocityVerlet(Trap(), 1.5), 1.0, 1.0, seed=3)
        state, squares = trapped(), []
        path = unroll(motion, state, motion.start(state), 300)
        for k, (one, _) in enumerate(path):
            if k >= 100:
                squares.append(one.positions.square().mean())
        mean = float(torch.stack(squares).mean())
        assert (abs(mean - 1.0) < 0.03) == right
        assert mean > 1.3 or right

    def test_the_energy_of_positions_is_boltzmann_distributed(self):
        motion = GHMC(VelocityVerlet(Trap(), 1.5), 0.7, 1.0, seed=1)
        state = end(motion, trapped(1500), 60)
        values = state.positions.flatten().numpy() / 0.7**0.5
        assert stats.kstest(values, "norm").pvalue > 1e-3

    def test_refused_strides_turn_velocities_round(self):
        class Never(GHMC):
            def _draws(self, index, state):
                return torch.full((state.n_systems,), 2.0, dtype=torch.float64)

        start = chain()
        motion = Never(VelocityVerlet(Springs(), 0.05), 1.0, 0.0)
        state, evaluation = motion.advance(start, motion.start(start), 0)
        assert torch.equal(state.positions, start.positions)
        assert torch.equal(state.velocities, -start.velocities)
        assert torch.equal(evaluation.energy, motion.start(start).energy)

    def test_acceptance_is_told_and_falls_with_the_stride(self):
        found = []
        for dt in (0.02, 0.09):
            motion = GHMC(VelocityVerlet(Springs(), dt), 1.0, 1.0)
            end(motion, chain(systems=20), 50)
            found.append(motion.score.share)
            assert motion.score.tried == 1000
        assert 1.0 > found[0] > 0.98 > found[1]

    def test_what_is_counted_goes_on_when_a_system_stops(self):
        motion = GHMC(VelocityVerlet(Springs(), 0.05), 1.0, 1.0)
        fewer = motion.select([0])
        end(fewer, chain(), 5)
        assert motion.score.tried == 5

    def test_no_temperature_is_refused(self):
        with pytest.raises(ValueError, match="temperature"):
            GHMC(VelocityVerlet(Springs(), 0.05), 0.0, 1.0)

    def test_cheap_forces_need_a_time_step(self):
        with pytest.raises(ValueError, match="give dt"):
            MotionSettings(cheap=Springs(), cheap_steps=8)

    def test_a_motion_without_constant_energy_is_refused(self):
        with pytest.raises(ValueError, match="conserve energy"):
            GHMC(CSVR(Springs(), 0.1, 1.0, 1.0), 1.0, 1.0)

    def test_a_system_does_not_know_what_shares_its_batch(self):
        state = maxwell_boltzmann(chain(systems=3), 1.0, REDUCED, 5)
        motion = GHMC(RESPA(Springs(), Springs(soft=0.0), 0.12, 6), 1.0, 0.5, seed=2)
        together = end(motion, state, 40)
        alone = State.collate([state.systems()[1]])
        alone.stream = state.streams[1:2]
        apart = end(copy.deepcopy(motion).select([1]), alone, 40)
        assert torch.allclose(together.systems()[1].positions, apart.positions, atol=1e-9)


def test_the_domain_is_watched_in_every_long_stride():
    """Though frames are far apart; an untrained map lets particles collide at once."""
    found = []
    for watched in (True, False):
        flow = FlowPropagator(CompiledStrideMap(known_map(), None), 0.5)
        flow.always_watched = watched
        found.append(Rollout(flow, every=10).run(chain(5), 10))
    assert "training came no nearer" in found[0].reasons[0]
    assert found[0].steps[0] < found[1].steps[0]


def test_expected_errors_go_on_where_a_run_of_refused_strides_does(tmp_path):
    world = sciwm.load("organic")

    def run(steps, name):
        motion = MotionSettings(dt=2.0, temperature=300.0, thermostat="ghmc").propagator(
            world.mover()
        )
        start = State.collate([State.from_smiles("CO", dtype=torch.float64)] * 3)
        start.stream = torch.arange(3)
        start = maxwell_boltzmann(start, 300.0, MOLECULAR, 1)
        Rollout(motion, tmp_path / name, every=1).run(start, steps, resume=True)
        with H5MDFile(tmp_path / name) as file:
            return [one.read(property_field("force_error")) for one in file.trajectories]

    for steps in (3, 8):
        parts = run(steps, "parts.h5md")
    assert all(np.isfinite(one).all() for one in parts)
    for one, other in zip(parts, run(8, "whole.h5md"), strict=True):
        assert np.allclose(one, other, rtol=1e-4)


def test_a_thermostat_around_several_steps_holds_the_temperature():
    motion = LangevinSplitting(RESPA(Springs(), Springs(soft=0.0), 0.1, 8), 2.0, 1.0, seed=4)
    state, heat = chain(systems=200), []
    for k, (one, _) in enumerate(unroll(motion, state, motion.start(state), 150)):
        if k > 50:
            heat.append(kinetic_energy(one, REDUCED).mean())
    assert float(torch.stack(heat).mean()) == pytest.approx(2.0 * 12 / 2, rel=0.03)


def test_several_steps_and_refused_ones_are_continued_as_if_never_stopped(tmp_path):
    def motion():
        return GHMC(RESPA(Springs(), Springs(soft=0.0), 0.12, 6), 1.0, 0.5, seed=2)

    start = chain(systems=2)
    whole = Rollout(motion(), tmp_path / "whole.h5md", every=5).run(start, 40)
    Rollout(motion(), tmp_path / "parts.h5md", every=5).run(start, 20)
    parts = Rollout(motion(), tmp_path / "parts.h5md", every=5).run(start, 40, resume=True)
    assert torch.allclose(whole.state.positions, parts.state.positions, atol=1e-9)


def known_map(seed=0, periodic=False, dtype=torch.float64):
    """An untrained map that knows chains, and a state for it."""
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = FlowMap(MotionEncoder(4.0, channels=8), "reduced")
        frames = [chain(5, seed=k).frame(0) for k in range(6)]
        model.adapt(survey(frames, model.cutoff, REDUCED, None))
        ones = np.full(119, 0.5)
        model.measure(MotionScales((0.1, 0.8), ones, 3 * ones, ones, ones, 0.25))
    finally:
        torch.set_default_dtype(default)
    return model.to(dtype).eval()


class Leaning(FlowMap):
    """Adds a little of a fixed direction."""

    def changes(self, state, table, stride):
        stray, gain = super().changes(state, table, stride)
        return stray, gain + 1e-4 * torch.tensor([1.0, 0.0, 0.0], dtype=gain.dtype)


class Spinning(FlowMap):
    """Forgets angular momentum."""

    @staticmethod
    def moved(state, stride, stray, gain):
        duration = stride[state.batch][:, None]
        return state.positions + duration * (state.velocities + stray), state.velocities + gain


def of_class(kind, model):
    model.__class__ = kind
    return model


class TestFlowMap:
    def systems(self):
        return [chain(5, seed=1), chain(5, seed=2)]

    def statuses(self, model):
        found = symmetry_checks(model, self.systems()) + conservation_checks(model, self.systems())
        return {check.name: check.status for check in found if check.name != "reversibility"}

    def test_symmetries_and_momenta_hold_at_round_off(self):
        assert set(self.statuses(known_map()).values()) == {"pass"}
        assert len(self.statuses(known_map())) == 8

    @pytest.mark.parametrize(
        ("kind", "caught"),
        [(Leaning, {"rotation", "reflection", "momentum"}), (Spinning, {"angular momentum"})],
    )
    def test_the_checks_catch_a_map_without_them(self, kind, caught):
        found = self.statuses(of_class(kind, known_map()))
        assert caught <= {name for name, status in found.items() if status == "fail"}

    def test_periodic_images_do_not_matter(self):
        model = known_map()
        frame = chain(5).frame(0).with_(cell=9.0 * np.eye(3), pbc=np.full(3, True))
        images = 9.0 * np.array([[1, 0, -2]] * 2 + [[0, 1, 0]] * 3)
        far = frame.with_(positions=frame.positions + images)
        flow = FlowPropagator(CompiledStrideMap(model, None), 0.5)
        ends = [end(flow, State.from_frame(one, torch.float64), 3) for one in (frame, far)]
        assert torch.allclose(ends[0].velocities, ends[1].velocities, atol=1e-10)
        moved = [torch.from_numpy(one.positions) for one in (frame, far)]
        assert torch.allclose(ends[0].positions - moved[0], ends[1].positions - moved[1], atol=1e-9)

    def test_a_lone_particle_moves_straight_on(self):
        """Wherever it is: round-off of its own position is no lever to turn it by."""
        model = known_map()
        one = Frame(
            numbers=np.zeros(1, int), positions=np.array([[1.7, -2.3, 3.13]]),
            velocities=np.full((1, 3), 0.2), masses=np.ones(1),
        )  # fmt: skip
        state = end(
            FlowPropagator(CompiledStrideMap(model, None), 0.5),
            State.from_frame(one, torch.float64),
            4,
        )
        assert torch.allclose(state.positions, torch.from_numpy(one.positions) + 0.4)
        assert torch.allclose(state.velocities, torch.full((1, 3), 0.2, dtype=torch.float64))

    def test_atoms_nearly_on_a_line_are_not_shaken_about_it(self):
        """A wrong change of velocities is corrected by no more than its own size."""
        rng = np.random.default_rng(0)
        frame = Frame(
            numbers=np.array([8, 6, 8]),
            positions=np.array([[-1.16, 0.0, 0.0], [0.0, 0.003, 0.0], [1.16, 0.0, 0.0]]),
            velocities=0.005 * rng.standard_normal((3, 3)),
        )
        state = State.from_frame(frame, torch.float64)
        stray, gain = 1e-4 * torch.from_numpy(rng.standard_normal((2, 3, 3)))
        wrong = state.velocities + gain
        _, velocities = FlowMap.moved(state, torch.tensor([16.0]).double(), stray, gain)
        assert (velocities - wrong).norm() < 2.0 * gain.norm()

    @pytest.mark.parametrize("stride", [0.05, 0.25, 0.9])
    def test_strides_that_were_never_trained_are_refused(self, stride):
        with pytest.raises(ValueError, match=r"never trained; .* multiples of 0\.1 up to 0\.8"):
            FlowPropagator(CompiledStrideMap(known_map(), None), stride)

    def test_particles_faster_than_any_in_training_are_flagged(self):
        model = known_map()
        state = chain(5)
        state = attach_pairs(state, model.cutoff)
        assert model.outside(state, NeighbourTable.from_pairs(state)) == {}
        fast = state.moved(state.positions, 20 * state.velocities)
        assert "times as fast" in model.outside(fast, NeighbourTable.from_pairs(state))[0]

    def test_a_file_gives_the_same_map(self, tmp_path):
        model = known_map(dtype=torch.float32)
        archive.save(Archive(model), tmp_path / "model.pt")
        again = archive.load(tmp_path / "model.pt").model
        flows = [FlowPropagator(CompiledStrideMap(one, None), 0.5) for one in (model, again)]
        one, other = (end(flow, chain(5), 3) for flow in flows)
        assert torch.equal(one.positions, other.positions)

    def test_it_is_asked_for_no_energies(self, tmp_path):
        archive.save(Archive(known_map(dtype=torch.float32)), tmp_path / "model.pt")
        world = sciwm.load(tmp_path / "model.pt")
        with pytest.raises(ValueError, match="no energies"):
            world.energy(chain(5))

    def test_pressures_and_metropolis_steps_are_refused(self):
        flow = CompiledStrideMap(known_map(), None)
        with pytest.raises(ValueError, match="no forces"):
            MotionSettings(temperature=1.0, pressure=1.0).propagator(flow)
        with pytest.raises(ValueError, match="langevin"):
            MotionSettings(temperature=1.0, thermostat="ghmc").propagator(flow)


class TestActions:
    """What is done from outside to motions of long strides."""

    @staticmethod
    def straight():
        """A map that has learned that everything moves on straight."""
        model = known_map()
        for name in ("strays", "gains"):
            getattr(model, name).zero_()
        return FlowPropagator(CompiledStrideMap(model, None), 0.5)

    def test_a_force_on_a_flow_map_is_constant_acceleration(self):
        """Exact for straight motion: x = v t + F t² / 2 m, and the work is F x."""
        start = chain(5)
        force = [0.3, -0.1, 0.2]
        motion, state = acted(self.straight(), start, [ConstantForce([*range(5)], force)])
        assert "momentum" not in motion.conserves
        assert motion.always_watched
        there = end(motion, state, 4)
        pull = torch.tensor(force, dtype=torch.float64) / start.masses[:, None]
        flown = start.positions + 2.0 * start.velocities + 0.5 * 2.0**2 * pull
        assert torch.allclose(there.positions, flown, atol=1e-12)
        assert torch.allclose(there.velocities, start.velocities + 2.0 * pull, atol=1e-12)
        gained = kinetic_energy(there, REDUCED) - kinetic_energy(start, REDUCED)
        assert float(gained) == pytest.approx(float(there.work), rel=1e-9)

    def test_a_schedule_and_a_field_go_with_a_thermostat_around_a_map(self):
        held = LangevinSplitting(self.straight(), 1.0, 2.0, seed=3)
        cold = TemperatureSchedule([0.0, 2.0], [1.0, 0.01])
        motion, state = acted(held, chain(5, systems=8), [cold, ConstantForce([0], [0.1, 0, 0])])
        there = end(motion, state, 30)
        warm = end(held, chain(5, systems=8), 30)
        assert kinetic_energy(there, REDUCED).mean() < 0.05 * kinetic_energy(warm, REDUCED).mean()

    @pytest.mark.parametrize("action", [Frozen([0]), MassChange([0], 3.0)])
    def test_a_map_does_not_know_other_masses(self, action):
        with pytest.raises(ValueError, match="map moves those of its training"):
            acted(self.straight(), chain(5), [action])

    @pytest.mark.parametrize("counted", [True, False])
    def test_accepted_strides_are_canonical_in_an_outer_trap(self, counted):
        """A free particle that only an action holds: <x²> = k T / k_s, at a stride that would distort it."""

        class Uncounted(Kicked):
            def outer_energy(self, state, index):
                return torch.zeros(state.n_systems, dtype=torch.float64)

        trap = [TrapAction([0], 1.0, [0.0, 0.0, 0.0])]
        motion, state = acted(
            GHMC(VelocityVerlet(Trap(0.0), 1.5), 1.0, 1.0, seed=3), trapped(), trap
        )
        if not counted:
            inner = motion.inner.motion
            motion.inner.motion = Uncounted(inner.inner, [TimeWindow(one) for one in trap], True)
        squares = []
        for k, (one, _) in enumerate(unroll(motion, state, motion.start(state), 300)):
            if k >= 100:
                squares.append(one.positions.square().mean())
        mean = float(torch.stack(squares).mean())
        assert (abs(mean - 1.0) < 0.03) == counted

    def test_what_was_done_in_a_refused_stride_was_not_done(self):
        class Never(GHMC):
            def _draws(self, index, state):
                return torch.full((state.n_systems,), 2.0, dtype=torch.float64)

        motion = Never(VelocityVerlet(Springs(), 0.05), 1.0, 1.0)
        push = [ConstantForce([0], [1.0, 0.0, 0.0])]
        assert not end(*acted(motion, chain(), push), 5).work.any()
        motion = GHMC(VelocityVerlet(Springs(), 0.05), 1.0, 1.0)
        assert end(*acted(motion, chain(), push), 5).work.all()

    def test_where_nothing_moves_nobody_works(self):
        """The work on what does not change is what its energy fell by, whatever the error of the strides."""
        walls = [
            Wall([1.0, 0, 0], -1.0, 30.0),
            Wall([-1.0, 0, 0], -1.0, 30.0),
        ]
        held = GHMC(VelocityVerlet(Trap(0.0), 0.4), 1.0, 1.0, seed=4)
        motion, state = acted(held, trapped(50), walls)
        there = end(motion, state, 60)
        before, after = (sum(one.act(s, 0.0)[0] for one in walls) for s in (state, there))
        assert (after - before).abs().max() > 0.1
        assert torch.allclose(there.work, before - after, atol=1e-9)
        # Kicks alone tell something else.
        plain, state = acted(LangevinSplitting(held.motion, 1.0, 1.0, seed=4), trapped(50), walls)
        there = end(plain, state, 60)
        before, after = (sum(one.act(s, 0.0)[0] for one in walls) for s in (state, there))
        assert (there.work - before + after).abs().max() > 0.1

    def test_what_is_over_is_not_looked_at(self):
        class Counted(ConstantForce):
            asked = 0

            def act(self, state, time):
                Counted.asked += 1
                return super().act(state, time)

        push = Counted([0], [1.0, 0.0, 0.0])
        held = GHMC(VelocityVerlet(Springs(), 0.05), 1.0, 1.0)
        end(*acted(held, chain(), [During(10.0, 20.0, [push])]), 5)
        assert Counted.asked == 0
        end(*acted(held, chain(), [During(0.0, 20.0, [push])]), 5)
        assert Counted.asked == 20

    def test_energies_are_told_at_the_time_of_the_forces(self):
        field = UniformField([1.0, 0, 0], frequency=0.21, charges=[1.0])
        window = TimeWindow(field, 0.1, 1e9)
        kicked = Kicked(VelocityVerlet(Trap(), 0.5), [window], still=True)
        state, index = trapped(1), 20_000_001
        exact = field.act(state, torch.tensor([(index + 0.5) * 0.5 - 0.1], dtype=torch.float64))[0]
        assert torch.allclose(kicked.outer_energy(state, index), exact, atol=1e-12)
        chosen = kicked.select([0])
        assert torch.allclose(chosen.outer_energy(state, index), exact, atol=1e-12)


@pytest.fixture(scope="module")
def swinging(tmp_path_factory):
    """Trajectories of chains on springs, 0.05 apart."""
    path = tmp_path_factory.mktemp("swinging") / "chains.h5md"
    start = maxwell_boltzmann(chain(3, systems=12), 0.05, REDUCED, 1)
    Rollout(VelocityVerlet(Springs(40.0), 0.01), path, every=5).run(start, 1000)
    return path


def data(path, **changes):
    found = WindowData(str(path), valid=2, split="trajectory", length=9, batch_size=16, **changes)
    found.divide(0)
    return found


class TestFlowTask:
    def test_what_is_sought_of_a_window_leads_from_its_start_to_its_end_and_back(self, swinging):
        """Forwards and, with velocities turned round, backwards."""
        chosen = data(swinging)
        task = FlowTask(FlowMap(MotionEncoder(4.0, channels=8), "reduced"))
        task.adapt(chosen)
        batch = State.collate([chosen.training_set[k] for k in (3, 50)])
        ends = torch.tensor([8, 5])
        for backwards in (False, True):
            *_, stray, gain = task._inputs(batch, ends, backwards)
            first, last = batch.path[:, 0], batch.path[torch.arange(6), ends[batch.batch]]
            v0, v1 = (
                batch.path_velocities[:, 0],
                batch.path_velocities[torch.arange(6), ends[batch.batch]],
            )
            if backwards:
                first, last, v0, v1 = last, first, -v1, -v0
            state = batch.moved(first, v0)
            stride = batch.interval * ends
            found = FlowMap.moved(state, stride, stray.double(), gain.double())
            assert torch.allclose(found[0], last, atol=1e-5)
            assert torch.allclose(found[1], v1, atol=1e-5)

    def test_a_trained_map_moves_as_its_teacher(self, swinging, tmp_path):
        """A stride of forty steps, better than straight on, from the command line on."""
        job = {
            "data": {
                "class_path": "sciwm.data.WindowData",
                "init_args": {
                    "train": str(swinging), "valid": 2, "split": "trajectory", "length": 9,
                    "batch_size": 16,
                },
            },
            "task": {
                "class_path": "sciwm.training.FlowTask",
                "init_args": {
                    "model": {
                        "class_path": "sciwm.models.FlowMap",
                        "init_args": {
                            "encoder": {"cutoff": 4.0, "channels": 16},
                            "unit_system": "reduced",
                        },
                    },
                },
            },
            "max_steps": 300,
            "validate_every": 300,
            "program": False,
        }  # fmt: skip
        (tmp_path / "job.yaml").write_text(json.dumps(job))
        assert (
            main(["train", str(tmp_path / "job.yaml"), "--folder", str(tmp_path), "--name", "flow"])
            == 0
        )
        metrics = json.loads((tmp_path / "flow" / "metrics.json").read_text())
        assert metrics["best"]["valid/velocity"] < 0.5 * metrics["null"]["velocity"]
        out = tmp_path / "strides.h5md"
        command = [
            "simulate",
            str(tmp_path / "flow"),
            str(swinging),
            "8",
            "--frames",
            "-1",
            "--out",
            str(out),
        ]
        assert main([*command, "--dt", "0.4", "--every", "2"]) in (0, 3)
        with H5MDFile(out) as file:
            trajectory = file.trajectories[0]
            assert "energy" not in trajectory.fields
            assert trajectory.timestep == pytest.approx(0.8)

    def test_a_program_of_the_loss_gives_its_numbers(self, swinging):
        """Which `CompiledLoss` compares; and serves batches of any size."""
        chosen = data(swinging)
        task = FlowTask(FlowMap(MotionEncoder(4.0, channels=8), "reduced"), compiled=True)
        task.adapt(chosen)
        task.on_train_start()
        for count in (3, 7):
            batch = State.collate([chosen.training_set[k] for k in range(count)])
            inputs = task._inputs(batch, torch.full((count,), 8), False)
            expected = squared_errors(task.model, *inputs).sum().detach()
            found = task._compiled(torch.ones(2), inputs).detach()
            assert float(found) == pytest.approx(float(expected), rel=1e-4)

    def test_frames_are_refused(self):
        with pytest.raises(ValueError, match="WindowData"):
            FlowTask(FlowMap(MotionEncoder(4.0))).adapt(FrameData.__new__(FrameData))

    def test_missing_velocities_are_told(self, tmp_path):
        path = tmp_path / "still.h5md"
        with H5MDWriter(path, units=REDUCED) as writer:
            for k in range(30):
                frame = chain(3, seed=k).frame(0)
                writer.append(frame.with_(velocities=None, time=0.1 * k, step=k), group="one")
        task = FlowTask(FlowMap(MotionEncoder(4.0), "reduced"))
        chosen = WindowData(str(path), valid=0.2, split="time", length=3)
        chosen.divide(0)
        with pytest.raises(ValueError, match="holds no velocities"):
            task.adapt(chosen)

    def test_intervals_that_differ_are_told(self, swinging, tmp_path):
        path = tmp_path / "other.h5md"
        Rollout(VelocityVerlet(Springs(40.0), 0.01), path, every=10).run(chain(3, systems=3), 400)
        chosen = WindowData([str(swinging), str(path)], valid=2, split="trajectory", length=9)
        chosen.divide(0)
        with pytest.raises(ValueError, match="apart"):
            FlowTask(FlowMap(MotionEncoder(4.0), "reduced")).adapt(chosen)


def test_validation_windows_follow_one_another(swinging):
    chosen = data(swinging)
    frames = [entry.frame for entry in chosen._validation.entries]
    assert len(set(frames)) > 10
    assert min(b - a for a, b in pairwise(frames) if b > a) == 8
