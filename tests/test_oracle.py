"""Reference runs give numbers or a reason, harm nobody else, and are paid once whatever is killed."""

import gc
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import HUNG
from pebble import ProcessExpired

from sciwm.core.construction import construct
from sciwm.core.frame import Frame
from sciwm.data.h5md import H5MDFile
from sciwm.discovery.experiment.oracle import measurement, oracle
from sciwm.discovery.experiment.oracle import pool as pool_module
from sciwm.discovery.experiment.oracle.calculation import Calculation, CalculationResult
from sciwm.discovery.experiment.oracle.measurement import measure
from sciwm.discovery.experiment.oracle.oracle import Oracle, OracleError, run
from sciwm.discovery.experiment.oracle.owner import GRACE, Owner, birth_of
from sciwm.discovery.experiment.oracle.pool import WorkerPool
from sciwm.discovery.experiment.oracle.spool import Spool, SpoolError
from sciwm.discovery.planners.proposers.proposer import Proposer
from sciwm.discovery.problem.gates import Gate
from sciwm.discovery.problem.hypothesis import Failure, Measurement
from sciwm.discovery.problem.outcomes.outcome import Outcome, OutcomeError, Value
from sciwm.simulation.references.reference import ConvergenceError, GeometryError, WorkerError
from sciwm.simulation.references.registry import reference_from

pytestmark = pytest.mark.long

PROPERTY = "sciwm.discovery.problem.outcomes.properties.RelaxedProperty"
SURVIVAL = "sciwm.discovery.problem.outcomes.survival.ThermalSurvival"
GFN2 = {"class_path": "sciwm.simulation.references.xtb.GFN2", "init_args": {}}


def gap(smiles, **settings):
    recipe = {"class_path": PROPERTY, "init_args": {"property": "gap"}}
    return Calculation(smiles, (recipe,), GFN2 | {"init_args": settings})


def endless(smiles):
    """Molecular dynamics that no test waits for."""
    recipe = {"class_path": SURVIVAL, "init_args": {"time": 1e8, "seeds": 1, "temperature": 300.0}}
    return Calculation(smiles, (recipe,), GFN2)


def until(condition, seconds=HUNG):
    """What the condition is, once it is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"nothing came of it within {seconds} s")


def children_of(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


class Recipe(Outcome):
    """Answers as it is told, without any physics."""

    def __init__(self, name, answer):
        self._name, self.answer = name, answer

    name = property(lambda self: self._name)
    unit = property(lambda self: "eV")

    def evaluate_many(self, world, structures, seed=0):
        answer = self.answer(*structures) if callable(self.answer) else self.answer
        return [answer]


class World:
    """A simulator that nobody asks."""

    def evaluate(self, state, stress=False):
        raise AssertionError

    def close(self):
        """Nothing runs."""


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Measures methane with recipes that answer as they are told."""

    def measured(*answers, timeout=math.inf, smiles="C"):
        recipes = [Recipe(f"outcome{k}", answer) for k, answer in enumerate(answers)]
        monkeypatch.setattr(measurement, "recipes_of", lambda outcomes: recipes)
        monkeypatch.setattr(measurement, "reference_from", lambda description: World())
        return measure(gap(smiles), tmp_path / "frames.h5md", timeout)

    return measured


def raising(error):
    def answer(structure):
        raise error

    return answer


class TestConstruction:
    def test_a_description_becomes_the_object_down_to_its_parts(self):
        inner = {"class_path": SURVIVAL, "init_args": {"temperature": 700.0}}
        path = "sciwm.discovery.problem.outcomes.survival.SurvivalTime"
        found = construct({"class_path": path, "init_args": {"survival": inner}})
        assert (type(found).__name__, found.survival.temperature) == ("SurvivalTime", 700.0)

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("os.system", "only classes under 'sciwm.'"),
            ("sciwmx.evil.Class", "only classes under 'sciwm.'"),
            ("sciwm.discovery.experiment.oracle.calculation.Path", "not a class of this package"),
            ("sciwm.discovery.experiment.oracle.oracle.run", "not a class of this package"),
            ("sciwm.discovery.experiment.oracle.calculation.Missing", "check the spelling"),
            ("", "give 'class_path'"),
        ],
    )
    def test_what_is_no_class_of_this_package_is_refused(self, path, problem):
        with pytest.raises(ValueError, match=problem):
            construct({"class_path": path})

    def test_arguments_that_a_class_does_not_take_are_told(self):
        with pytest.raises(ValueError, match=r"GFN2 cannot be built from \['colour'\]"):
            construct(GFN2 | {"init_args": {"colour": "red"}})

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (
                {"start": ["CCO", None]},
                r"start of .*Genetic cannot be list; it takes .*Sequence\[str\]",
            ),
            ({"start": "CCO"}, "start of .*Genetic cannot be 'CCO'"),
            ({"start": ["CCO"], "max_heavy": 2.5}, "max_heavy of .*Genetic cannot be 2.5"),
            ({"start": ["CCO"], "population": True}, "population of .*Genetic cannot be True"),
        ],
    )
    def test_arguments_of_another_type_are_told(self, arguments, problem):
        path = "sciwm.discovery.planners.proposers.genetic.Genetic"
        with pytest.raises(ValueError, match=problem):
            construct({"class_path": path, "init_args": arguments})
        sound = {"start": ["CCO"], "max_heavy": 4}
        assert construct({"class_path": path, "init_args": sound}, Proposer).name == "genetic"

    @pytest.mark.parametrize(
        ("path", "arguments"),
        [
            ("discovery.outcomes.survival.ThermalSurvival", {"temperature": 1e30}),
            ("discovery.outcomes.ensembles.InfraredSpectrum", {"temperature": math.nan}),
            (
                "discovery.outcomes.ensembles.ThermalAverage",
                {"observable": "dipole", "temperature": -1.0},
            ),
            ("simulation.references.xtb.GFN2", {"electronic_temperature": 1e30}),
        ],
    )
    def test_heat_at_which_there_are_no_atoms_is_refused_before_anything_runs(
        self, path, arguments
    ):
        with pytest.raises(ValueError, match="the temperature cannot be"):
            construct({"class_path": f"sciwm.{path}", "init_args": arguments})

    @pytest.mark.parametrize("arguments", [{"accuracy": math.nan}, {"timeout": math.nan}])
    def test_settings_of_the_reference_that_are_no_numbers_are_told(self, arguments):
        with pytest.raises(ValueError, match=r"positive.*got .*nan"):
            construct(GFN2 | {"init_args": arguments})

    def test_a_mixture_takes_proposers_and_no_descriptions_of_them(self):
        path = "sciwm.discovery.planners.proposers.mixture.Mixture"
        members = [{"class_path": "sciwm.discovery.planners.proposers.genetic.Genetic"}]
        with pytest.raises(ValueError, match=r"members of .*Mixture cannot be list"):
            construct({"class_path": path, "init_args": {"members": members}}, Proposer)

    def test_nothing_is_built_that_is_not_of_the_kind_asked_for(self, tmp_path):
        writer = {
            "class_path": "sciwm.data.h5md.writer.H5MDWriter",
            "init_args": {"path": str(tmp_path / "made.h5md")},
        }
        for kind in (Gate, Proposer):
            with pytest.raises(ValueError, match=f"H5MDWriter is no {kind.__name__}"):
                construct(writer, kind)
        survival = "sciwm.discovery.problem.outcomes.survival.SurvivalTime"
        with pytest.raises(ValueError, match="H5MDWriter is no ThermalSurvival"):
            construct({"class_path": survival, "init_args": {"survival": writer}}, Outcome)
        assert not list(tmp_path.iterdir())

    def test_recipes_must_be_recipes_of_different_names(self):
        with pytest.raises(ValueError, match="GFN2 is no Outcome"):
            measurement.recipes_of([GFN2])
        with pytest.raises(ValueError, match=r"different names, got \['gap', 'gap'\]"):
            measurement.recipes_of(gap("C").outcomes * 2)
        with pytest.raises(ValueError, match="RelaxedProperty is no Reference"):
            reference_from({"class_path": PROPERTY, "init_args": {"property": "gap"}})


class TestTask:
    def test_the_key_is_that_of_the_question(self):
        task = gap("CO", solvent="water")
        assert task.key == replace(task, attempt=3).key == gap("CO", solvent="water").key
        others = [gap("CC", solvent="water"), gap("CO"), replace(task, seed=1), endless("CO")]
        assert len({task.key, *(other.key for other in others)}) == 5

    def test_an_answer_survives_being_written_down(self, tmp_path):
        answer = CalculationResult(
            "C",
            "key",
            {"gap": Measurement(1 / 3, 0.1)},
            Failure("time", "ü > 3"),
            1.5,
            2,
            tmp_path / "key.h5md",
            "abc",
            "host",
            1.0,
            2.0,
        )
        assert CalculationResult.from_json(answer.to_json(), tmp_path) == answer
        assert str(tmp_path) not in answer.to_json()

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"smiles": "C"}', "{"])
    def test_what_is_no_answer_is_refused(self, text, tmp_path):
        with pytest.raises(ValueError, match=r"."):
            CalculationResult.from_json(text, tmp_path)


class TestMeasurement:
    def test_a_real_measurement_is_that_of_the_recipe_itself(self, tmp_path):
        from sciwm.core.molecules import frame_from_smiles

        answer = measure(gap("CO"), tmp_path / "frames.h5md")
        world = construct(GFN2)
        value = construct(gap("CO").outcomes[0]).evaluate(world, frame_from_smiles("CO", 0))
        world.close()
        assert answer.failure is None
        assert answer.measurements["gap"].value == pytest.approx(value.mean, abs=1e-9)
        with H5MDFile(answer.frames_path) as file:
            [trajectory] = file.trajectories
            kept = trajectory.frame(len(trajectory) - 1)
        assert kept.energy == pytest.approx(value.frames[-1].energy, abs=1e-6)
        assert np.allclose(kept.positions, value.frames[-1].positions)
        content = answer.frames_path.read_bytes()
        assert answer.frames_hash == hashlib.sha256(content).hexdigest()
        assert answer.frames_hash != hashlib.sha256(content + b"x").hexdigest()

    @pytest.mark.parametrize(
        ("smiles", "stage"), [("C(C", "parsing"), ("", "parsing"), ("C1#CC1", "embedding")]
    )
    def test_a_smiles_fails_where_it_fails(self, told, smiles, stage):
        assert told(Value(1.0), smiles=smiles).failure.stage == stage

    def test_an_unknown_solvent_is_a_failure_without_structures(self, tmp_path):
        answer = measure(gap("O", solvent="unobtainium"), tmp_path / "frames.h5md")
        assert answer.failure.stage in ("calculation", "relaxation")
        assert "unobtainium" in answer.failure.reason
        assert answer.frames_path is None
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("error", "stage"),
        [
            (OutcomeError(Failure("connectivity", "it fell apart")), "connectivity"),
            (GeometryError("too near"), "calculation"),
            (ConvergenceError("the density is not converged"), "calculation"),
            (WorkerError("ended its process twice"), "worker"),
            (MemoryError(), "memory"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: 400000000 bytes"), "memory"),
            (WorkerError("its last words: 'In d4.f90: Error allocating 4718592 bytes'"), "memory"),
            (OutcomeError(Failure("worker", "OpenBLAS error: Memory allocation failed")), "memory"),
            (KeyError("bug"), "calculation"),
        ],
    )
    def test_errors_become_failures_of_their_stage(self, told, error, stage):
        assert told(raising(error)).failure.stage == stage

    def test_a_bug_is_told_with_its_place(self, told):
        reason = told(raising(KeyError("bug"))).failure.reason
        assert "KeyError in test_oracle.py:" in reason

    @pytest.mark.parametrize(
        "value",
        [
            Value(math.nan),
            Value(math.inf),
            Value(1e9),
            Value(1.0, -0.1),
            Value(1.0, math.nan),
            Value(1.0, flag="unseen element"),
            Value(1.0, frames=[Frame(np.array([1]), np.zeros((1, 3)), energy=math.nan)]),
            Value(
                1.0, frames=[Frame(np.array([1]), np.zeros((1, 3)), forces=np.full((1, 3), 1e5))]
            ),
        ],
    )
    def test_numbers_that_cannot_be_are_failures(self, told, value):
        answer = told(value)
        assert answer.failure.stage == "calculation"
        assert answer.measurements == {}
        assert told(Value(1.0, 0.1)).failure is None

    def test_what_was_measured_before_a_failure_is_kept_with_its_structures(self, told):
        frame = Frame(np.array([1]), np.zeros((1, 3)), energy=-1.0, forces=np.zeros((1, 3)))
        answer = told(Value(1.0, frames=[frame]), raising(MemoryError()), Value(2.0))
        assert answer.measurements == {"outcome0": Measurement(1.0)}
        assert answer.failure.stage == "memory"
        with H5MDFile(answer.frames_path) as file:
            assert file.trajectories[0].frame(0).energy == pytest.approx(-1.0)

    def test_structures_that_do_not_follow_one_another_are_kept_apart(self, told, tmp_path):
        def frame(n, **fields):
            return Frame(np.ones(n, dtype=np.int64), np.zeros((n, 3)), energy=-1.0, **fields)

        frames = [frame(1, time=0.0), frame(1, time=1.0), frame(1, time=0.0), frame(2, time=1.0)]
        frames += [frame(2), frame(2), frame(2, forces=np.zeros((2, 3)))]
        (tmp_path / "frames.h5md.partial").write_text("left by a run that was killed")
        with H5MDFile(told(Value(1.0, frames=frames)).frames_path) as file:
            assert [len(one) for one in file.trajectories] == [2, 1, 1, 2, 1]
        assert [path.name for path in tmp_path.iterdir()] == ["frames.h5md"]

    def test_a_run_notices_its_time_limit_even_inside_a_simulator(self, told):
        def stubborn(structure):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= HUNG
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # whatever came before took its time
            try:
                time.sleep(2 * HUNG)
            except Exception:  # as simulators do that wrap foreign code
                return Value(1.0)

        handler = signal.getsignal(signal.SIGALRM)
        answer = told(Value(1.0), stubborn, timeout=HUNG)
        assert answer.failure.stage == "time"
        assert answer.measurements.keys() == {"outcome0"}
        # Another timer, such as that of the test itself, goes on.
        assert signal.getsignal(signal.SIGALRM) is handler

    def test_the_cost_is_the_work_of_the_run_and_its_processes(self, told):
        burn = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.5: pass"

        def working(structure):
            subprocess.run([sys.executable, "-c", burn], check=True)
            return Value(1.0)

        def resting(structure):
            time.sleep(0.5)
            return Value(1.0)

        assert told(working).seconds > 0.5
        assert told(resting).seconds < 0.4


class TestOwner:
    def test_this_process_is_at_work_and_a_dead_one_is_not(self):
        assert Owner.here().at_work(10)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        owner = replace(Owner.here(), pid=child.pid, birth=birth_of(child.pid))
        assert owner.at_work(10)
        child.kill()
        # It stays in the table of processes until its parent asks for it.
        until(lambda: not owner.at_work(10))
        assert Path(f"/proc/{child.pid}").exists() or not Path("/proc").exists()
        child.communicate()
        assert not owner.at_work(10)

    def test_a_later_process_of_the_same_number_is_another_one(self):
        assert not replace(Owner.here(), birth="12345").at_work(10)

    def test_on_another_machine_only_time_tells(self):
        there = replace(Owner.here(), host="elsewhere", pid=1)
        assert there.at_work(10)
        assert not replace(there, since=time.time() - 11 - GRACE).at_work(10)
        assert replace(there, since=time.time() - 11 - GRACE).at_work(math.inf)

    @pytest.mark.parametrize("shift", [1e6, -1e6])
    def test_a_clock_that_is_set_changes_nothing_on_this_machine(
        self, shift, monkeypatch, tmp_path
    ):
        owner, spool, real = Owner.here(), Spool(tmp_path), time.time
        assert spool.claim(gap("C"), 10)
        monkeypatch.setattr(time, "time", lambda: real() + shift)
        assert Owner.from_json(owner.to_json()).at_work(10)
        assert not spool.claim(gap("C"), 10)  # it would be paid twice
        lost = spool.bury(gap("C"), Failure("worker", "killed"))
        assert 0 <= lost.seconds < HUNG
        assert lost.ended >= lost.started
        # Where only the time of day is known, it is believed, but nobody works for less than no time.
        there = replace(owner, host="elsewhere")
        assert there.at_work(10) == (shift < 0)
        assert there.seconds() >= 0

    @pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no ps to compare with")
    def test_systems_without_proc_tell_as_much(self, monkeypatch):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        monkeypatch.setattr(
            "sciwm.discovery.experiment.oracle.owner.Path.exists", lambda path: False
        )
        assert birth_of(child.pid) == birth_of(child.pid) is not None
        child.kill()
        until(lambda: birth_of(child.pid) is None)
        child.communicate()
        assert birth_of(child.pid) is None


class TestSpool:
    def test_an_answer_is_found_again_and_frames_move_with_the_folder(self, tmp_path):
        task, spool = gap("C"), Spool(tmp_path / "deep" / "spool")
        assert spool.answer(task) is None
        answer = CalculationResult(
            "C", task.key, {"gap": Measurement(1.0)}, frames_path=spool.frames(task)
        )
        spool.deliver(task, answer)
        assert spool.answer(task) == answer
        moved = Spool(spool.folder.rename(tmp_path / "moved"))
        assert moved.answer(task).frames_path == moved.frames(task)

    def test_a_damaged_answer_is_told_with_a_remedy(self, tmp_path):
        task, spool = gap("C"), Spool(tmp_path)
        (tmp_path / f"{task.key}.json").write_text('{"smiles": "C"')
        with pytest.raises(SpoolError, match="remove it to have 'C' measured again"):
            spool.answer(task)

    def test_a_folder_that_cannot_be_used_is_told(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(SpoolError, match="Not a directory"):
            Spool(tmp_path / "file" / "spool")

    def test_a_task_belongs_to_whom_it_claims_first_until_he_is_gone(self, tmp_path):
        task, spool = gap("C"), Spool(tmp_path)
        assert spool.claim(task, 10)
        assert not spool.claim(task, 10)
        sign = tmp_path / f"{task.key}.running"
        sign.write_text(json.dumps(json.loads(sign.read_text()) | {"birth": "another life"}))
        assert not spool.at_work(task, 10)
        assert spool.claim(task, 10)
        spool.release(task)
        assert not sign.exists()

    def test_the_sign_of_another_one_stays(self, tmp_path):
        task, spool = gap("C"), Spool(tmp_path)
        sign = tmp_path / f"{task.key}.running"
        sign.write_text(replace(Owner.here(), host="elsewhere").to_json())
        spool.release(task)
        assert sign.exists()

    def test_a_sign_that_is_still_empty_is_judged_by_its_age(self, tmp_path):
        task, spool = gap("C"), Spool(tmp_path)
        sign = tmp_path / f"{task.key}.running"
        sign.write_text("")
        assert not spool.claim(task, 10)
        os.utime(sign, (time.time() - 2 * GRACE,) * 2)
        assert spool.claim(task, 10)

    def test_of_many_only_one_takes_over_from_the_dead(self, tmp_path):
        task, spool = gap("C"), Spool(tmp_path)
        for _ in range(20):
            sign = tmp_path / f"{task.key}.running"
            sign.write_text(replace(Owner.here(), birth="dead").to_json())
            start = threading.Barrier(8)

            def claim(k, start=start):
                start.wait()
                return Spool(tmp_path).claim(task, 10)

            with ThreadPoolExecutor(8) as pool:
                assert sum(pool.map(claim, range(8))) == 1
            spool.release(task)


@pytest.fixture
def scripted(monkeypatch):
    """Lets runs answer by a script: what each SMILES gives in its first, second, ... try."""
    calls = []

    def use(script):
        def measured(task, frames_path, timeout):
            calls.append((task.smiles, task.attempt))
            step = script.get(task.smiles, [None])
            what = step[min(task.attempt, len(step) - 1)]
            if isinstance(what, Exception):
                raise what
            if isinstance(what, threading.Event):
                assert what.wait(HUNG)
                what = None
            failure = Failure(what, "as scripted") if what else None
            return CalculationResult(task.smiles, task.key, {}, failure, 1.0, task.attempt + 1)

        monkeypatch.setattr(oracle, "measure", measured)
        return calls

    return use


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


class TestOracle:
    def test_answers_come_as_they_are_ready(self, scripted, threads, tmp_path):
        others = threading.Event()
        scripted({"CC": [others]})
        answers = Oracle(threads, Spool(tmp_path)).run([gap("CC"), gap("C"), gap("CCC")])
        assert {next(answers).smiles, next(answers).smiles} == {"C", "CCC"}
        others.set()
        assert [answer.smiles for answer in answers] == ["CC"]

    @pytest.mark.parametrize(
        ("script", "tries", "stage"),
        [
            (["time", None], 2, None),
            (["worker", "time", None], 2, "time"),
            (["memory", None], 1, "memory"),
            (["calculation", None], 1, "calculation"),
        ],
    )
    def test_only_what_may_pass_is_tried_again_and_every_try_is_paid(
        self, scripted, threads, tmp_path, script, tries, stage
    ):
        calls = scripted({"C": script})
        [answer] = Oracle(threads, Spool(tmp_path)).run([gap("C")])
        assert (answer.attempts, answer.seconds, len(calls)) == (tries, tries, tries)
        assert (answer.failure.stage if answer.failure else None) == stage

    def test_what_is_in_the_spool_is_not_paid_again(self, scripted, threads, tmp_path):
        calls = scripted({"CC": ["calculation"], "CCC": ["time"]})
        tasks = [gap("C"), gap("CC"), gap("CCC")]
        first = {answer.key: answer for answer in Oracle(threads, Spool(tmp_path)).run(tasks)}
        paid = len(calls)
        again = {answer.key: answer for answer in Oracle(threads, Spool(tmp_path)).run(tasks)}
        assert again == first
        assert len(calls) == paid == 4
        # More patience buys another try, and only of what may pass.
        list(Oracle(threads, Spool(tmp_path), retries=2).run(tasks))
        assert calls[paid:] == [("CCC", 2)]

    def test_equal_tasks_are_run_and_answered_once(self, scripted, threads, tmp_path):
        calls = scripted({})
        assert len(list(Oracle(threads, Spool(tmp_path)).run([gap("C"), gap("C")]))) == 1
        assert len(calls) == 1

    def test_what_another_one_runs_is_waited_for(self, scripted, threads, tmp_path):
        calls = scripted({})
        task, spool = gap("C"), Spool(tmp_path)
        spool.claim(task, 10)

        def finish():
            until(lambda: spool.answer(gap("CC")))
            spool.deliver(task, CalculationResult("C", task.key, {"gap": Measurement(4.0)}))
            spool.release(task)

        other = threading.Thread(target=finish)
        other.start()
        answers = list(Oracle(threads, spool, timeout=10).run([task, gap("CC")]))
        other.join()
        assert [answer.smiles for answer in answers] == ["CC", "C"]
        assert answers[1].measurements["gap"].value == 4.0
        assert calls == [("CC", 0)]

    def test_what_another_one_left_undone_is_run(self, scripted, threads, tmp_path):
        calls = scripted({})
        task, spool = gap("C"), Spool(tmp_path)
        (tmp_path / f"{task.key}.running").write_text(
            replace(Owner.here(), birth="an earlier life").to_json()
        )
        assert len(list(Oracle(threads, spool, timeout=10).run([task]))) == 1
        assert calls == [("C", 0)]

    def test_a_full_disk_stops_the_campaign_not_the_molecule(self, scripted, threads, tmp_path):
        scripted({"C": [OSError(28, "No space left on device")]})
        with pytest.raises(SpoolError, match="No space left"):
            list(Oracle(threads, Spool(tmp_path)).run([gap("C")]))
        assert not list(tmp_path.glob("*.json"))

    def test_an_executor_that_starts_nothing_is_told(self, tmp_path):
        class Broken(ThreadPoolExecutor):
            def submit(self, fn, /, *args, **kwargs):
                future = Future()
                future.set_exception(BrokenProcessPool("no worker starts"))
                return future

        with pytest.raises(
            OracleError, match=r"Broken could not run C, 3 times over.* no worker starts"
        ):
            list(Oracle(Broken(), Spool(tmp_path)).run([gap("C")]))
        assert not list(tmp_path.glob("*.json"))

    def test_a_wrong_recipe_is_told_before_anything_runs(self, scripted, threads, tmp_path):
        calls = scripted({})
        wrong = replace(gap("CC"), outcomes=({"class_path": PROPERTY, "init_args": {}},))
        with pytest.raises(ValueError, match="RelaxedProperty cannot be built"):
            list(Oracle(threads, Spool(tmp_path)).run([gap("C"), wrong]))
        assert calls == []

    def test_closing_the_iterator_cancels_what_has_not_begun(self, scripted, threads, tmp_path):
        closed = threading.Event()
        calls = scripted({"C" * n: [closed] for n in range(2, 9)})
        answers = Oracle(threads, Spool(tmp_path)).run([gap("C" * n) for n in range(1, 9)])
        next(answers)
        answers.close()
        closed.set()
        threads.shutdown()
        assert len(calls) <= 3  # one answered, two on their way


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(2, timeout=HUNG, memory=300_000_000) as pool:
        yield pool


@pytest.fixture
def late(monkeypatch):
    """Lets the time limit of all tasks that run pass at once."""
    ahead = 0.0
    monkeypatch.setattr(pool_module, "now", lambda: time.monotonic() + ahead)

    def pass_by():
        nonlocal ahead
        ahead += 2 * HUNG

    return pass_by


class TestWorkerPool:
    def test_it_maps_like_any_executor(self, pool):
        assert list(pool.map(pow, [2, 3, 4], [5, 2, 1])) == [32, 9, 4]

    def test_errors_come_back(self, pool):
        with pytest.raises(ValueError, match="math domain error"):
            pool.submit(math.sqrt, -1.0).result()

    def test_a_task_that_dies_fails_only_itself(self, pool):
        before = [pool.submit(time.sleep, 0.3) for _ in range(3)]
        deadly = pool.submit(os._exit, 7)
        killed = pool.submit(os.kill, 0, signal.SIGKILL)
        after = [pool.submit(abs, -k) for k in range(5)]
        with pytest.raises(ProcessExpired) as caught:
            deadly.result()
        assert caught.value.exitcode == 7
        with pytest.raises(ProcessExpired):
            killed.result()
        assert [future.result() for future in before] == [None] * 3
        assert [future.result() for future in after] == list(range(5))

    def test_a_task_over_the_time_limit_is_ended_and_the_next_one_runs(self, pool, late):
        slow = pool.submit(time.sleep, 2 * HUNG)
        until(lambda: slow._began is not None)
        late()
        with pytest.raises(TimeoutError):
            slow.result()
        assert pool.submit(abs, -1).result() == 1

    def test_a_clock_that_is_put_forward_or_back_ends_nothing(self, pool, monkeypatch):
        real = time.time
        running = pool.submit(time.sleep, 1.0)
        until(running.running)
        for shift in (1e6, -1e6):
            monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
            assert pool.submit(abs, -1).result() == 1
        assert running.result() is None

    def test_a_task_over_the_memory_limit_fails_and_the_next_one_runs(self, pool):
        assert len(pool.submit(bytes, 100_000_000).result()) == 100_000_000
        with pytest.raises(MemoryError):
            pool.submit(bytes, 1_000_000_000).result()
        assert len(pool.submit(bytes, 100_000_000).result()) == 100_000_000

    def test_a_worker_that_dies_at_rest_is_replaced(self, pool):
        pids = {pool.submit(os.getpid).result() for _ in range(10)}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(birth_of(pid) for pid in pids))
        time.sleep(0.5)
        assert pool.submit(abs, -1).result() == 1

    def test_workers_have_one_thread_and_ignore_ctrl_c(self, pool):
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
        assert pool.submit(os.getenv, "SCIWM_THREADS").result() == "1"
        pid = pool.submit(os.getpid).result()
        os.kill(pid, signal.SIGINT)
        assert list(pool.map(abs, [-1] * 4)) == [1] * 4
        assert birth_of(pid)

    def test_a_ctrl_c_while_a_worker_starts_is_answered_when_it_has(self, tmp_path):
        """Between its start and the word what it is for, which it would miss with a traceback."""
        script = tmp_path / "interrupted.py"
        script.write_text(
            "import os, signal, time\n"
            "import multiprocessing.util as processes\n"
            "from sciwm.discovery.experiment.oracle.pool import WorkerPool\n"
            "spawn = processes.spawnv_passfds\n"
            "def spawned(*arguments):\n"
            "    number = spawn(*arguments)\n"
            "    if 'spawn_main' in str(arguments):\n"  # and no tracker of semaphores
            "        os.kill(os.getpid(), signal.SIGINT)\n"
            "    return number\n"
            "if __name__ == '__main__':\n"
            "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "    processes.spawnv_passfds = spawned\n"
            "    pool = WorkerPool(1)\n"
            "    try:\n"
            "        pool.submit(abs, -1).result()\n"
            "    except KeyboardInterrupt:\n"
            "        print('answered')\n"
            "    finally:\n"
            "        pool.shutdown(wait=False, cancel_futures=True)\n"
        )
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, timeout=HUNG
        )
        assert done.stdout == "answered\n"
        assert done.stderr == ""

    def test_children_go_with_a_worker_that_is_ended(self, pool, late):
        busy = pool.submit(subprocess.run, [sys.executable, "-c", "import time; time.sleep(9999)"])
        workers = [pid for pid in children_of(os.getpid()) if children_of(pid)]
        until(lambda: [pid for pid in children_of(os.getpid()) if children_of(pid)])
        [child] = [c for pid in children_of(os.getpid()) for c in children_of(pid)]
        assert birth_of(child), workers
        until(lambda: busy._began is not None)
        late()
        with pytest.raises(TimeoutError):
            busy.result()
        until(lambda: not birth_of(child))

    def test_shutdown_finishes_what_runs_cancels_what_waits_and_takes_no_more(self):
        pool = WorkerPool(1)
        first = pool.submit(time.sleep, 2.0)
        others = [pool.submit(time.sleep, 2 * HUNG) for _ in range(3)]
        until(first.running)
        pool.shutdown(cancel_futures=True)
        assert first.result() is None
        assert all(future.cancelled() for future in others)
        with pytest.raises(RuntimeError, match="shut down"):
            pool.submit(abs, -1)

    def test_a_pool_that_nobody_holds_any_more_goes_and_so_does_its_watch(self):
        pool = WorkerPool(1, timeout=HUNG)
        watches = [one for one in threading.enumerate() if one.name == "time limits"]
        gone = weakref.ref(pool)
        del pool
        gc.collect()
        assert gone() is None
        until(lambda: not watches[-1].is_alive())

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"workers": 0}, "workers must be at least 1"),
            ({"workers": 100_000}, "workers must be at most 1024"),
            ({"workers": 1, "timeout": 0}, "time limit must be positive"),
            ({"workers": 1, "memory": -1}, "memory limit must be positive"),
        ],
    )
    def test_impossible_settings_are_refused(self, settings, problem):
        with pytest.raises(ValueError, match=problem):
            WorkerPool(**settings)


class TestTogether:
    """The oracle, the pool and GFN2 at work."""

    def test_molecules_that_fail_in_their_own_ways_leave_the_others_alone(self, tmp_path):
        tasks = [gap("O"), gap("C" * 1500), endless("CCO"), gap("C(C"), gap("CO")]
        with WorkerPool(1, timeout=HUNG, memory=250_000_000) as pool:
            oracle = Oracle(pool, Spool(tmp_path), timeout=8.0, retries=0)
            answers = {answer.smiles: answer for answer in oracle.run(tasks)}
        stages = {
            smiles: answer.failure and answer.failure.stage for smiles, answer in answers.items()
        }
        assert stages == {
            "O": None,
            "C" * 1500: "memory",
            "CCO": "time",
            "C(C": "parsing",
            "CO": None,
        }
        assert answers["O"].measurements["gap"].value == pytest.approx(14.4, abs=0.5)
        assert answers["CCO"].seconds > 0.5
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".h5md", ""}

    def test_a_killed_worker_costs_its_molecule_a_try_and_ends_its_child(self, tmp_path):
        spool, children = Spool(tmp_path), []

        def kill():
            owner = until(lambda: spool.owner(endless("CCO")))
            children.extend(until(lambda: children_of(owner.pid)))
            os.kill(owner.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with WorkerPool(1) as pool:
            oracle = Oracle(pool, spool, timeout=HUNG, retries=0)
            answers = {a.smiles: a for a in oracle.run([endless("CCO"), gap("CO")])}
        killer.join()
        lost = answers["CCO"]
        assert (lost.failure.stage, lost.attempts) == ("worker", 1)
        assert "exit status -9" in lost.failure.reason
        assert 0 < lost.seconds == pytest.approx(lost.ended - lost.started)
        assert answers["CO"].failure is None
        assert children
        until(lambda: not any(birth_of(child) for child in children))

    def test_a_killed_campaign_pays_nothing_twice(self, tmp_path):
        """Killed while one run is over, one is on its way and one waits."""
        code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_oracle import *
        if __name__ == "__main__":
            with WorkerPool(1) as pool:
                for answer in Oracle(pool, Spool({str(tmp_path / "spool")!r})).run(CAMPAIGN):
                    print(answer.smiles, flush=True)
        """
        script = tmp_path / "campaign.py"
        script.write_text(textwrap.dedent(code))
        campaign = subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert campaign.stdout.readline() == "O\n"
        spool = Spool(tmp_path / "spool")
        first, second, third = CAMPAIGN
        orphan = until(lambda: spool.owner(second))
        campaign.kill()
        campaign.wait()
        campaign.stdout.close()
        assert spool.at_work(second, math.inf)
        paid = spool.answer(first)
        with WorkerPool(1) as pool:
            answers = {a.smiles: a for a in Oracle(pool, spool).run(CAMPAIGN)}
        assert all(answer.failure is None for answer in answers.values())
        assert answers["O"] == paid
        # The orphan finished it: the run did not start anew.
        assert orphan.since <= answers[second.smiles].started < orphan.since + 1
        assert answers[second.smiles].ended > orphan.since
        assert answers[third.smiles].started > answers[second.smiles].started
        until(lambda: not birth_of(orphan.pid))


CAMPAIGN = (
    gap("O"),
    replace(
        endless("CCO"),
        outcomes=({"class_path": SURVIVAL, "init_args": {"time": 300.0, "seeds": 1}},),
    ),
    gap("CO"),
)


def test_a_run_that_was_answered_meanwhile_is_not_repeated(scripted, tmp_path):
    calls = scripted({})
    task, spool = gap("C"), Spool(tmp_path)
    answer = CalculationResult("C", task.key, {"gap": Measurement(1.0)})
    spool.deliver(task, answer)
    assert run(task, str(tmp_path), math.inf) == answer
    assert calls == []
