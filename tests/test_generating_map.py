"""Long strides from a scalar of the midpoint: what they keep, and that averages of refused ones are right."""

import numpy as np
import pytest
import torch
from test_long_strides import Springs, chain, end

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import REDUCED
from sciwm.data import WindowData
from sciwm.data.h5md import H5MDFile
from sciwm.evaluation.checks.flow import conservation_checks, symmetry_checks
from sciwm.interfaces.motion import MotionSettings
from sciwm.models import FlowMap, GeneratingMap, MotionEncoder, archive
from sciwm.models.dynamics.stride_map import MotionScales
from sciwm.models.programs.stride_program import CompiledStrideMap
from sciwm.models.statistics import survey
from sciwm.simulation.propagators import (
    GHMC,
    LangevinSplitting,
    MappedMotion,
    MidpointPropagator,
    VelocityVerlet,
    strides_by,
)
from sciwm.simulation.rollout import Rollout, unroll
from sciwm.simulation.simulator import SimulatorError
from sciwm.simulation.velocities import maxwell_boltzmann
from sciwm.training import FlowTask
from sciwm.training.fit import fit

STRIDE = 0.4


def known_map(kind=GeneratingMap, thermal=0.02, dtype=torch.float64):
    """An untrained map that knows chains."""
    torch.manual_seed(0)
    model = kind(4.0, channels=6, unit_system="reduced")
    model.adapt(survey([chain(5, seed=k).frame(0) for k in range(6)], 4.0, REDUCED, None))
    ones = np.full(119, 0.5)
    model.measure(MotionScales((0.1, 2 * STRIDE), ones, 3 * ones, ones, ones, thermal))
    return model.to(dtype).eval()


def strides(model, stride=STRIDE):
    return MidpointPropagator(CompiledStrideMap(model, None), stride)


class Uneven(GeneratingMap):
    """A scalar that is not even in the velocities."""

    def _generator(self, geometry, relative, stride):
        along = (relative * geometry.direction).sum(-1)
        push = (along * self.basis(geometry.distance)[..., 0]).sum(1)
        return super()._generator(geometry, relative, stride) + 3.0 * push


class Absolute(GeneratingMap):
    """Changes that come from no scalar: a drag along each particle's own change of place."""

    def changes(self, state, table, stride):
        stray, gain = super().changes(state, table, stride)
        return stray, gain - 0.05 * stray


class Hopeless(GeneratingMap):
    """Tells something else at every asking of whatever is fast."""

    asked = 0

    def changes(self, state, table, stride):
        self.asked += 1
        stray, gain = super().changes(state, table, stride)
        fast = state.velocities.square().sum(1) > 0.8
        fast = torch.zeros(len(stride), dtype=bool).index_put(
            (state.batch[fast],), torch.tensor(True)
        )
        return stray, gain + 0.1 * (self.asked % 7) * fast[state.batch][:, None]


class TestStructure:
    def systems(self):
        return [chain(5, seed=1), chain(5, seed=2)]

    def statuses(self, model):
        found = symmetry_checks(model, self.systems()) + conservation_checks(model, self.systems())
        return {check.name: (check.status, check.value) for check in found}

    def test_symmetries_momenta_and_the_way_back_hold_at_round_off(self):
        found = self.statuses(known_map())
        assert len(found) == 9
        assert {status for status, _ in found.values()} == {"pass"}
        assert found["reversibility"][1] < 1e-10

    def test_a_scalar_that_is_not_even_does_not_lead_back(self):
        assert self.statuses(known_map(Uneven))["reversibility"][1] > 1e-3

    def jacobian(self, model):
        """Of momenta and positions a stride later, by those before; positions first."""
        state = chain(4, seed=3)
        masses = state.masses.repeat_interleave(3)
        size, step = masses.numel(), 1e-5

        def later(point):
            moved = state.moved(point[:size].view(-1, 3), (point[size:] / masses).view(-1, 3))
            ended = end(strides(model), moved, 1)
            return torch.cat([ended.positions.flatten(), masses * ended.velocities.flatten()])

        start = torch.cat([state.positions.flatten(), masses * state.velocities.flatten()])
        columns = [
            (later(start + step * unit) - later(start - step * unit)) / (2 * step)
            for unit in torch.eye(2 * size, dtype=torch.float64)
        ]
        return torch.stack(columns, dim=1), size

    @pytest.mark.parametrize(("kind", "kept"), [(GeneratingMap, True), (Absolute, False)])
    def test_strides_are_symplectic(self, kind, kept):
        """Jᵀ Ω J = Ω, by finite differences; not so where changes derive from no scalar."""
        jacobian, size = self.jacobian(known_map(kind))
        omega = torch.zeros(2 * size, 2 * size, dtype=torch.float64)
        omega[:size, size:] = torch.eye(size)
        omega[size:, :size] = -torch.eye(size)
        off = float((jacobian.T @ omega @ jacobian - omega).abs().max())
        assert (off < 1e-7) is kept
        assert float((jacobian - torch.eye(2 * size)).abs().max()) > 0.3  # something moved

    def test_periodic_images_do_not_matter(self):
        frame = chain(5).frame(0).with_(cell=9.0 * np.eye(3), pbc=np.full(3, True))
        images = 9.0 * np.array([[1, 0, -2]] * 2 + [[0, 1, 0]] * 3)
        far = frame.with_(positions=frame.positions + images)
        ends = [
            end(strides(known_map()), State.from_frame(one, torch.float64), 3)
            for one in (frame, far)
        ]
        assert torch.allclose(ends[0].velocities, ends[1].velocities, atol=1e-9)

    def test_a_lone_particle_moves_straight_on(self):
        one = Frame(
            numbers=np.zeros(1, int), positions=np.array([[1.7, -2.3, 3.13]]),
            velocities=np.full((1, 3), 0.2), masses=np.ones(1),
        )  # fmt: skip
        state = end(strides(known_map()), State.from_frame(one, torch.float64), 5)
        assert torch.allclose(state.positions, torch.from_numpy(one.positions) + 5 * STRIDE * 0.2)

    def test_a_stride_never_trained_is_refused(self):
        with pytest.raises(ValueError, match="never trained"):
            strides(known_map(), 0.95)


class TestSolving:
    def test_a_stride_that_cannot_be_solved_is_halved_and_counted(self):
        moving, start = strides(known_map(thermal=0.15), 2 * STRIDE), chain(5, systems=3)
        whole, solved = moving._solved(start, 2 * STRIDE)
        assert not solved.all()
        with pytest.warns(UserWarning, match="taken in"):
            ended, _ = moving.advance(start, None, 0)
        assert (moving.solutions.taken, moving.solutions.unsolved) == (3, int((~solved).sum()))
        halves = end(strides(known_map(thermal=0.15)), start, 2).positions
        expected = torch.where(solved[start.batch][:, None], whole.positions, halves)
        assert torch.allclose(ended.positions, expected, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_where_a_system_lies_does_not_matter(self, dtype):
        """Weights are stored in single precision, but equations are solved in double."""
        moving, start = strides(known_map(dtype=dtype)), chain(5)
        far = start.moved(start.positions + 1000.0, start.velocities)
        ends = [moving.advance(one, None, 0)[0] for one in (start, far)]
        assert torch.allclose(ends[0].velocities, ends[1].velocities, atol=1e-9)
        assert moving.solutions.unsolved == 0

    def test_one_that_never_can_is_an_error_and_not_an_answer(self):
        with pytest.raises(SimulatorError, match="no solution"):
            strides(known_map(thermal=1e6), 2 * STRIDE).advance(chain(5), None, 0)

    def test_such_a_system_stops_with_the_reason_and_others_go_on(self):
        model, cold = known_map(Hopeless, thermal=1e-6), chain(5)
        pair = State.collate([cold.moved(cold.positions, 2.0 * cold.velocities), cold])
        found = Rollout(strides(model, 0.1)).run(pair, 2)
        assert "no solution" in found.reasons[0]
        assert (found.steps[1], found.reasons[1]) == (2, None)


@pytest.fixture(scope="module")
def swinging(tmp_path_factory):
    """Trajectories of soft chains, 0.05 apart."""
    path = tmp_path_factory.mktemp("swinging") / "chains.h5md"
    start = maxwell_boltzmann(chain(3, systems=12), 0.05, REDUCED, 1)
    Rollout(VelocityVerlet(Springs(10.0), 0.01), path, every=5).run(start, 1000)
    return path


@pytest.fixture(scope="module")
def learned(swinging, tmp_path_factory):
    """A run folder, trained for a moment on strides of 0.05 to 0.4."""
    torch.manual_seed(0)
    data = WindowData(str(swinging), valid=2, split="trajectory", length=9, batch_size=16)
    model = GeneratingMap(4.0, channels=8, unit_system="reduced")
    task = FlowTask(model, learning_rate=0.03, matrix_rate=0.05)
    quiet = {"enable_progress_bar": False}
    folder = tmp_path_factory.mktemp("runs")
    fit(data, task, "map", max_steps=300, validate_every=300, trainer=quiet, folder=str(folder))
    return folder / "map"


class TestLearned:
    def test_it_moves_as_its_teacher(self, learned, swinging):
        model = archive.load(learned / "model.pt").model
        with H5MDFile(swinging) as file:
            window = file.trajectories[11].window(100, 9, 1)
            start = State.from_frame(file.trajectories[11].frame(100), torch.float64)
        moving = strides_by(CompiledStrideMap(model, None), 0.4)
        ended = end(moving, start, 1)
        true = torch.from_numpy(window.velocities[-1]).double()
        off = float((ended.velocities - true).square().mean().sqrt())
        null = float((start.velocities - true).square().mean().sqrt())
        assert off < 0.2 * null

    def test_refused_strides_leave_canonical_averages(self, learned):
        """Of the energy that judges, however wrong the map is about it."""
        flow = CompiledStrideMap(archive.load(learned / "model.pt").model.double(), None)
        soft, kelvin = Springs(10.0), 0.05
        start = maxwell_boltzmann(chain(3, systems=48), kelvin, REDUCED, 3)

        def stretch(motion):
            path = unroll(motion, start, motion.start(start), 200)
            each = [one.positions.view(48, 3, 3) for one, _ in path][50:]
            bonds = torch.stack([(one[:, 1] - one[:, 0]).norm(dim=-1) for one in each])
            return ((bonds - 1.0) ** 2).mean(0)

        ghmc = GHMC(MappedMotion(soft, MidpointPropagator(flow, 0.4)), kelvin, 0.5, seed=1)
        found = stretch(ghmc)
        assert 0.3 < ghmc.score.share < 1.0
        exact = stretch(GHMC(VelocityVerlet(soft, 0.05), kelvin, 0.5, seed=2))
        error = float((found.var() / 48 + exact.var() / 48).sqrt())
        assert abs(float(found.mean() - exact.mean())) < 4 * error

    def test_a_stride_without_a_solution_is_refused(self):
        """It is not taken in parts, which would not lead back."""
        flow = CompiledStrideMap(known_map(thermal=1e3), None)
        start = chain(3)
        ghmc = GHMC(MappedMotion(Springs(), MidpointPropagator(flow, STRIDE)), 1.0, 1e-9, seed=1)
        moved, after = ghmc.advance(start, ghmc.start(start), 0)
        assert torch.equal(moved.positions, start.positions)
        assert torch.allclose(moved.velocities, -start.velocities, atol=1e-3)
        assert torch.isfinite(after.energy).all()
        assert (ghmc.score.share, ghmc.motion.strides.solutions.unsolved) == (0.0, 1)

    def test_what_is_accepted_leads_back(self):
        """Of equations with several solutions, those that lead elsewhere are refused."""
        kelvin, model = 0.25, known_map(thermal=0.05)
        start = maxwell_boltzmann(chain(5, systems=48), kelvin, REDUCED, 7)
        moving = strides(model, 2 * STRIDE)
        moved, solved = moving.whole(start)
        back = moving.leads_back(start, moved)
        assert not back[~solved].any()
        assert (solved & ~back).any()  # else there would be nothing to refuse
        again, _ = moving.whole(moved.moved(moved.positions, -moved.velocities))
        kept = back[start.batch]
        assert torch.allclose(again.positions[kept], start.positions[kept], atol=1e-7)
        judged = MappedMotion(Springs(10.0), moving)
        _, after = judged.advance(start, judged.start(start), 0)
        assert torch.equal(torch.isfinite(after.energy), back)

    def test_settings_make_what_moves(self, learned):
        flow = CompiledStrideMap(archive.load(learned / "model.pt").model, None)
        assert isinstance(MotionSettings().propagator(flow), MidpointPropagator)
        warm = MotionSettings(temperature=0.05).propagator(flow)
        assert isinstance(warm, LangevinSplitting)
        judged = MotionSettings(temperature=0.05, thermostat="ghmc", cheap=flow).propagator(
            Springs()
        )
        assert isinstance(judged, GHMC)
        assert isinstance(judged.motion, MappedMotion)
        assert judged.stride == pytest.approx(0.4)

    def test_what_cannot_be_judged_is_refused(self, learned):
        flow = CompiledStrideMap(archive.load(learned / "model.pt").model, None)
        with pytest.raises(ValueError, match="thermostat ghmc"):
            MotionSettings(temperature=0.05, cheap=flow)
        other = CompiledStrideMap(FlowMap(MotionEncoder(4.0, channels=8), "reduced"), None)
        with pytest.raises(ValueError, match="not reversible"):
            MotionSettings(temperature=0.05, thermostat="ghmc", cheap=other)
