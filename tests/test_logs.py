"""Worlds from motions of which few tell what was done to the system."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.planning.controls import Knobs, Menu
from sciwm.planning.environments.charges import SoftenedCoulomb
from sciwm.planning.environments.ions import ions
from sciwm.planning.environments.mixture import STIFFNESS, mixture
from sciwm.planning.logs import UntoldError, inferred_plan, worlds_from_logs
from sciwm.planning.planners.planner import drawn
from sciwm.planning.practice import Schedule
from sciwm.planning.recording import Log, Recorded
from sciwm.planning.trial import carry_out
from sciwm.simulation.actions import UniformField
from sciwm.simulation.simulator import Evaluation


def recorded(setting, plan, path, seed=3, every=1):
    """A motion whose forces are all that act: those of the field, and of the trap of the mixture, by hand."""
    problem = setting.problem
    inner = path.with_name(f"inner_{path.name}")
    carry_out(replace(problem, every=every), setting.truth, plan, [seed], inner)
    highest = 2.0 if len(plan[0]) == 2 else 1.0
    with H5MDFile(inner) as source, H5MDWriter(path, units=REDUCED) as file:
        trajectory = source.trajectories[0]
        for k in range(trajectory.n_frames):
            frame = trajectory.frame(k)
            stage = min(int(frame.time / problem.stage + 1e-9), len(plan) - 1)
            field = np.zeros(3)
            field[: len(plan[0])] = highest * (2 * plan[stage] - 1)
            outside = frame.charges[:, None] * field
            if len(plan[0]) == 1:
                outside = outside - STIFFNESS * frame.positions
            file.append(frame.with_(forces=frame.forces + outside), group="motion")
    return path


def rewritten(path, change):
    """The same motion, with each frame changed, or left out where the change gives None."""
    other = path.with_name(f"other_{path.name}")
    other.unlink(missing_ok=True)
    with H5MDFile(path) as source, H5MDWriter(other, units=REDUCED) as file:
        trajectory = source.trajectories[0]
        for k in range(trajectory.n_frames):
            frame = change(trajectory.frame(k))
            if frame is not None:
                file.append(frame, group="motion")
    return other


def field(frame, plan):
    stage = min(int(frame.time / 0.4 + 1e-9), len(plan) - 1)
    return np.array([*(4 * plan[stage] - 2), 0.0])


def wave(frame, plan):
    """(3,) of an oscillating field, which begins anew in each stage."""
    stage = min(int(frame.time / 0.4 + 1e-9), len(plan) - 1)
    size, frequency = 4 * plan[stage][0] - 2, 10 * plan[stage][1]
    since = frame.time - 0.4 * stage
    return np.array([size * np.cos(2 * np.pi * frequency * since), 0.0, 0.0])


class Wrong(SoftenedCoulomb):
    """Off by so much in the forces on the first particles."""

    def __init__(self, truth, off, count=2):
        super().__init__(truth.softening)
        self.off, self.count = off, count

    def evaluate(self, state, stress=False):
        found = super().evaluate(state, stress)
        forces = found.forces.reshape(state.n_systems, -1, 3).clone()
        forces[:, : self.count, 0] += self.off
        return Evaluation(found.energy, forces.reshape(-1, 3))


@pytest.fixture(scope="module")
def setting():
    return ions()


@pytest.fixture(scope="module")
def plan(setting):
    return drawn(1, setting.problem.controls, np.random.default_rng(2))[0]


class TestWhatWasDone:
    @pytest.mark.parametrize("make", [ions, mixture])
    def test_is_found_from_forces_where_the_world_is_right(self, make, tmp_path):
        setting = make()
        plan = drawn(1, setting.problem.controls, np.random.default_rng(1))[0]
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        found = inferred_plan(setting.problem, Log(path), [setting.truth])
        np.testing.assert_allclose(found, plan, atol=1e-6)

    def test_is_found_though_worlds_are_wrong_about_two_that_meet(self, setting, plan, tmp_path):
        """They disagree there, and what the others feel is enough."""
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        wrong = [Wrong(setting.truth, off) for off in (20.0, 24.0)]
        found = inferred_plan(setting.problem, Log(path), wrong)
        np.testing.assert_allclose(found, plan, atol=1e-3)
        alone = inferred_plan(setting.problem, Log(path), [Wrong(setting.truth, 1.0, 5)])
        assert np.abs(alone - plan).max() > 0.01  # all are wrong, and nobody disagrees

    def test_is_found_wrongly_in_a_wrong_world(self, setting, plan, tmp_path):
        """The check before can fail."""
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        found = inferred_plan(setting.problem, Log(path), [SoftenedCoulomb(softening=0.45)])
        assert np.abs(found - plan).max() > 0.005

    def test_leaves_the_forces_from_within(self, setting, plan, tmp_path):
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        motion = Recorded.read(setting.problem, Log(path))
        assert set(motion.stages) == set(range(10))
        motion.write_inner(setting.problem, plan, tmp_path / "within.h5md")
        with H5MDFile(tmp_path / "within.h5md") as file:
            trajectory = file.trajectories[0]
            frames = [trajectory.frame(k) for k in range(trajectory.n_frames)]
        state = State.collate([State.from_frame(one, torch.float64) for one in frames])
        true = setting.truth.evaluate(state).forces.numpy()
        kept = np.concatenate([one.forces for one in frames])
        np.testing.assert_allclose(kept, true, atol=1e-12)
        wrong = motion.forces - motion.acting(setting.problem, 1 - plan)
        assert np.abs(wrong.reshape(-1, 3) - true).max() > 0.1

    def test_is_found_whatever_the_file_makes_of_places_and_charges(self, tmp_path):
        """Wrapped into a cell, without charges, begun late, times rounded; a trap acts on it all."""
        setting = mixture()
        plan = drawn(1, setting.problem.controls, np.random.default_rng(1))[0]
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)

        def wrapped(frame):
            images = np.floor(frame.positions / 1.5).astype(int)
            images[:, 2] = 0
            moved = frame.positions - 1.5 * images
            box = {"cell": 1.5 * np.eye(3), "pbc": np.array([True, True, False])}
            return frame.with_(positions=moved, images=images, **box)

        changes = {
            "wrapped": wrapped,
            "bare": lambda frame: frame.with_(charges=None),
            "late": lambda frame: None if frame.time < 0.3 else frame,
            "rounded": lambda frame: frame.with_(time=float(np.float32(frame.time)) + 2e-7),
        }
        for name, change in changes.items():
            found = inferred_plan(setting.problem, Log(rewritten(path, change)), [setting.truth])
            np.testing.assert_allclose(found, plan, atol=1e-6, err_msg=name)
        lost = rewritten(path, lambda frame: wrapped(frame).with_(images=None))
        with pytest.raises(ValueError, match="jump by half a cell"):
            inferred_plan(setting.problem, Log(lost), [setting.truth])
        shifted = rewritten(path, lambda frame: frame.with_(time=frame.time + 7.0))
        found = inferred_plan(setting.problem, Log(shifted, begin=7.0), [setting.truth])
        np.testing.assert_allclose(found, plan, atol=1e-6)

    def test_of_neutral_particles_is_not_told(self, setting, plan, tmp_path):
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        neutral = rewritten(path, lambda frame: frame.with_(charges=np.zeros(5)))
        with pytest.raises(ValueError, match="UniformField"):
            inferred_plan(setting.problem, Log(neutral), [setting.truth])

    def test_that_nothing_explains_is_not_told(self, setting, plan, tmp_path):
        """Ten times as strong as can be."""
        path = recorded(setting, 10 * plan, tmp_path / "motion.h5md", every=2)
        with pytest.raises(ValueError, match=r"no UniformField .* in these ranges explain"):
            inferred_plan(setting.problem, Log(path), [setting.truth])

    def test_is_found_though_one_is_far_off_and_hardly_any_feel_it(self, setting, plan, tmp_path):
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        far = [Wrong(setting.truth, off, 1) for off in (100.0, 130.0)]
        for worlds in (far, far[:1]):
            found = inferred_plan(setting.problem, Log(path), worlds)
            np.testing.assert_allclose(found, plan, atol=1e-3)
        charges = np.array([1.0, 1e-3, 1e-3, 1e-3, 1e-3])

        def lonely(frame):
            other = (charges - frame.charges)[:, None] * field(frame, plan)
            return frame.with_(forces=frame.forces + other)

        lone = UniformField(["-2 .. 2", "-2 .. 2", 0.0], charges=charges.tolist())
        problem = replace(setting.problem, controls=Knobs([lone], 10, REDUCED))
        found = inferred_plan(
            problem, Log(rewritten(path, lonely)), [Wrong(setting.truth, 0.02, 5)]
        )
        np.testing.assert_allclose(found, plan, atol=0.02)

    def test_of_a_frequency_is_found_or_refused_and_not_made_up(self, setting, tmp_path):
        """Beyond a quarter of what the field can do, nothing that is left over passes."""
        knobs = Knobs([UniformField(["-2 .. 2", 0.0, 0.0], frequency="0 .. 10")], 10, REDUCED)
        problem = replace(setting.problem, controls=knobs)
        for seed in range(3):
            plan = drawn(1, knobs, np.random.default_rng(seed))[0]
            within = tmp_path / f"{seed}.h5md"
            carry_out(replace(problem, every=1), setting.truth, plan, [seed], within)
            path = rewritten(
                within,
                lambda frame, plan=plan: frame.with_(
                    forces=frame.forces + frame.charges[:, None] * wave(frame, plan)
                ),
            )
            with suppress(UntoldError):
                found = inferred_plan(problem, Log(path), [setting.truth])
                motion = Recorded.read(problem, Log(path))
                missed = motion.acting(problem, found) - motion.acting(problem, plan)
                true = motion.acting(problem, plan)
                assert np.sqrt(np.mean(missed**2)) < 0.5 * np.sqrt(np.mean(true**2))

    def test_is_refused_where_it_cannot_be_told(self, setting, plan, tmp_path):
        problem = setting.problem
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)

        def told(path, world=setting.truth, problem=problem):
            return inferred_plan(problem, Log(path), [world])

        menu = Menu({"wait": [], "pull": [UniformField([1.0, 0, 0])]}, 10, REDUCED)
        with pytest.raises(ValueError, match="menu"):
            told(path, problem=replace(problem, controls=menu))
        with pytest.raises(ValueError, match="there is none"):
            inferred_plan(problem, Log(path), [])
        with pytest.raises(ValueError, match=r"stage 4, counted from 0: there is no frame"):
            told(rewritten(path, lambda frame: frame if frame.time < 1.6 else None))
        with pytest.raises(ValueError, match="lacks forces or times"):
            told(rewritten(path, lambda frame: frame.with_(forces=None)))
        with pytest.raises(ValueError, match="holds particles"):
            told(rewritten(path, lambda frame: frame.with_(numbers=frame.numbers + 1)))
        molecular = Wrong(setting.truth, 0.0)
        molecular.units = MOLECULAR
        with pytest.raises(ValueError, match="is in molecular units"):
            told(path, molecular)
        rare = recorded(setting, plan, tmp_path / "rare.h5md", every=10)
        with pytest.raises(ValueError, match=r"no frame within a stage of 0\.4"):
            told(rare)


@pytest.mark.long
class TestWorldsFromLogs:
    @pytest.mark.filterwarnings("ignore:no reference_energies")
    def test_leave_out_stages_that_they_cannot_tell_of(self, setting, plan, tmp_path):
        """In two of ten somebody pulled ten times as strongly as could be."""
        strong = plan.copy()
        strong[[3, 7]] = 10 * strong[[3, 7]]
        plans = [plan, plan, strong]
        logs = [
            Log(
                recorded(setting, one, tmp_path / f"{k}.h5md", seed=k, every=2),
                one if k < 2 else None,
            )
            for k, one in enumerate(plans)
        ]
        schedule = Schedule(members=1, train_steps=200, matrix_rate=0.03)
        arguments = setting.untrained, tmp_path / "learned", 0, schedule
        with pytest.warns(UserWarning, match="in 2 of 30 stages cannot be told"):
            _, found = worlds_from_logs(setting.problem, logs, *arguments)
        assert np.flatnonzero(np.isnan(found[2]).any(axis=1)).tolist() == [3, 7]
        with H5MDFile(tmp_path / "learned" / "all" / "within2.h5md") as file:
            assert file.trajectories[0].n_frames == 8 * 4

    @pytest.mark.filterwarnings("ignore:no reference_energies")
    def test_learn_from_those_that_do_not_tell(self, setting, tmp_path):
        """What was done is found to a hundredth, by worlds that two of six motions taught."""
        plans = drawn(6, setting.problem.controls, np.random.default_rng(4))
        logs = []
        for number, plan in enumerate(plans):
            path = recorded(setting, plan, tmp_path / f"{number}.h5md", seed=number, every=2)
            logs.append(Log(path, plan if number < 2 else None))
        schedule = Schedule(members=2, train_steps=400, matrix_rate=0.03)
        worlds, found = worlds_from_logs(
            setting.problem, logs, setting.untrained, tmp_path / "learned", 0, schedule
        )
        assert len(worlds) == 2
        np.testing.assert_array_equal(found[:2], plans[:2])
        missed = np.abs(np.array(found[2:]) - plans[2:])
        assert missed.mean() < 0.01
        assert np.abs(plans[2:] - 0.5).mean() > 0.2  # what no knowledge would miss by

    def test_refuse_plans_that_are_none(self, setting, plan, tmp_path):
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        for wrong, why in ((plan[:-1], "shape"), (3 * plan, "0 to 1"), (plan * np.nan, "0 to 1")):
            with pytest.raises(ValueError, match=why):
                Recorded.read(setting.problem, Log(path, wrong))

    def test_need_two_that_tell_and_a_new_folder(self, setting, plan, tmp_path):
        path = recorded(setting, plan, tmp_path / "motion.h5md", every=2)
        schedule = Schedule(members=1, train_steps=10)
        arguments = setting.untrained, tmp_path, 0, schedule
        with pytest.raises(ValueError, match="1 of 2 logs tell"):
            worlds_from_logs(setting.problem, [Log(path, plan), Log(path)], *arguments)
        with pytest.raises(ValueError, match="holds something already"):
            worlds_from_logs(setting.problem, [Log(path, plan), Log(path, plan)], *arguments)
