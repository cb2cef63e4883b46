"""Small evaluations take one thread, large ones more, and the rest of the process keeps its own number."""

import threading

import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import springs, water

import sciwm
from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State, frame_from_ase
from sciwm.core.threads import SLOTS_PER_THREAD, most_threads, on_threads, threads_for
from sciwm.data.h5md import H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.interfaces.world import World
from sciwm.models import archive
from sciwm.models.archive import Archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import Potential
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.programs import compilation
from sciwm.models.programs.compilation import CompiledPotential, accelerated
from sciwm.models.statistics import survey
from sciwm.simulation.ensemble import Ensemble
from sciwm.training.fit import fit
from sciwm.training.force_task import ForceTask

CUTOFF = 3.0


@pytest.fixture(autouse=True)
def three_threads():
    """What torch has in these tests, on a machine of any size."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def used(monkeypatch) -> list[int]:
    """The number of threads that each evaluation of a force field had."""
    found: list[int] = []
    energy = ForceField.energy_and_error

    def watched(model, geometry):
        found.append(torch.get_num_threads())
        return energy(model, geometry)

    monkeypatch.setattr(ForceField, "energy_and_error", watched)
    return found


def force_field(seed: int = 0) -> ForceField:
    torch.manual_seed(seed)
    model = ForceField(
        Encoder(CUTOFF, channels=4, lmax=1, layers=1), reference_energies={"H": 0.0, "O": 0.0}
    )
    frames = [springs(water(i)) for i in range(4)]
    model.adapt(survey(frames, CUTOFF, model.units, model.reference_table()))
    return model


def crystal(length: int) -> Frame:
    """Of hydrogen, with 32 neighbours of each atom within the cutoff."""
    grid = np.stack(np.meshgrid(*[np.arange(length)] * 3), axis=-1).reshape(-1, 3)
    cell = 1.5 * length * np.eye(3)
    return Frame(
        numbers=np.ones(len(grid), np.int64), positions=1.5 * grid, cell=cell, pbc=np.ones(3, bool)
    )


def molecule() -> Atoms:
    return Atoms("OH2", water().positions)


def simulated_by_torchsim(world: World) -> None:
    torch_sim = pytest.importorskip("torch_sim")
    from sciwm.interfaces.torchsim import TorchSimModel

    atoms = molecule()
    atoms.set_cell(20 * np.eye(3))
    model = TorchSimModel(world)
    model(torch_sim.initialize_state(atoms, torch.device("cpu"), torch.float32))


def by_calculator(world: World) -> None:
    atoms = molecule()
    atoms.calc = world.calculator()
    atoms.get_forces()


WAYS = {
    "energy": lambda world: world.energy(molecule()),
    "forces": lambda world: world.forces(molecule()),
    "imagine": lambda world: world.imagine(molecule(), time=1.0),
    "relax": lambda world: world.relax(molecule(), fmax=1e6),
    "calculator": by_calculator,
    "ensemble": lambda world: Ensemble([world.model, world.model]).evaluate(
        world.state(molecule())
    ),
    "TorchSim": simulated_by_torchsim,
}


@pytest.mark.parametrize("way", WAYS)
def test_small_work_takes_one_thread_in_every_way_in(used, way):
    WAYS[way](World(Archive(force_field())))
    assert set(used) == {1}
    assert torch.get_num_threads() == 3, "the rest of the process has what it had"


def test_large_work_takes_as_many_as_pay(used):
    world = World(Archive(force_field()))
    world.energy(State.from_frame(crystal(4)))
    world.energy(State.from_frame(crystal(6)))
    world.energy(State.from_frame(crystal(9)))
    assert used == [1, 2, 3]
    # Many small systems are many small pieces of work, whatever their number.
    used.clear()
    world.evaluate(State.collate([State.from_frame(crystal(4))] * 8))
    assert set(used) == {1}
    used.clear()
    world.evaluate(State.collate([State.from_frame(crystal(size)) for size in (4, 9)]))
    assert set(used) == {3}


def test_the_rule_is_monotonic_and_knows_its_limits():
    sizes = [0, SLOTS_PER_THREAD, 2 * SLOTS_PER_THREAD, 100 * SLOTS_PER_THREAD]
    assert [threads_for(size) for size in sizes] == [1, 1, 2, 3]
    assert most_threads() == 3
    torch.set_num_threads(1)
    assert threads_for(sizes[-1]) == 1, "more than torch may use"


def test_an_argument_and_the_environment_override(used, monkeypatch, tmp_path):
    archive.save(Archive(force_field()), tmp_path / "model.pt")
    usual, two = sciwm.load(tmp_path), sciwm.load(tmp_path, threads=2)
    used.clear()
    two.energy(molecule())
    monkeypatch.setenv("SCIWM_THREADS", "4")
    usual.energy(molecule())
    two.energy(molecule())
    assert used == [2, 4, 2]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", " "])
def test_what_is_no_number_of_threads_is_refused(monkeypatch, given):
    monkeypatch.setenv("SCIWM_THREADS", given)
    with pytest.raises(ValueError, match="SCIWM_THREADS must be a number of threads, 1 or more"):
        World(Archive(force_field())).energy(molecule())
    with pytest.raises(ValueError, match=r"^threads must be"):
        World(Archive(force_field()), threads=0).energy(molecule())


def test_the_number_is_put_back_after_a_failure(monkeypatch):
    def broken(model, geometry):
        raise ArithmeticError("no energy")

    monkeypatch.setattr(ForceField, "energy_and_error", broken)
    with pytest.raises(ArithmeticError, match="no energy"):
        World(Archive(force_field())).energy(molecule())
    assert torch.get_num_threads() == 3


def test_simulate_takes_threads_for_models_alone(used, tmp_path, capsys):
    archive.save(Archive(force_field()), tmp_path / "model.pt")
    start = str(tmp_path / "start.h5md")
    with H5MDWriter(start) as writer:
        writer.append(frame_from_ase(molecule()))
    options = ["1fs", "--threads", "2", "--out"]
    assert main(["simulate", str(tmp_path), start, *options, str(tmp_path / "a.h5md")]) in (0, 3)
    assert used[-1] == 2
    assert main(["simulate", "gfn2", start, *options, str(tmp_path / "b.h5md")]) == 2
    assert "--threads is for trained models" in capsys.readouterr().err


def test_training_on_small_molecules_takes_one_thread(used, labelled, tmp_path):
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    task = ForceTask(force_field())
    fit(FrameData(str(labelled)), task, "run", max_steps=3, trainer=quiet, folder=str(tmp_path))
    assert len(used) > 3
    assert set(used) == {1}
    assert torch.get_num_threads() == 3


@pytest.fixture
def built(monkeypatch, tmp_path):
    """Puts stand-ins into the cache that tell which of them was asked: programs take a minute to build."""
    monkeypatch.setenv("SCIWM_CACHE", str(tmp_path))
    programs = {}

    def build(model, *several):
        for threads in several:
            file = compilation.program_file(model, threads)
            file.parent.mkdir(exist_ok=True)
            file.touch()
            programs[file] = lambda *inputs, threads=threads: (
                torch.full((1,), float(threads)),
                torch.zeros(len(inputs[0]), 3),
                torch.zeros(1, 3, 3),
            )

    monkeypatch.setattr(compilation, "_checked", lambda model, traced, file: programs[file])
    monkeypatch.setattr(compilation, "export_program", lambda *_: pytest.fail("built without need"))
    return build


def asked(model: Potential, length: int) -> float:
    state = attach_pairs(State.from_frame(crystal(length)), CUTOFF)
    return float(model(state, NeighbourTable.from_pairs(state))[0])


def test_a_program_spread_over_threads_serves_those_who_take_as_many(built):
    model = force_field()
    built(model, 1, 2, 3)
    assert isinstance(accelerated(model), CompiledPotential)
    assert [asked(accelerated(model), length) for length in (4, 7, 9)] == [1, 1, 3]
    torch.set_num_threads(2)
    assert [asked(accelerated(model), length) for length in (4, 7, 9)] == [1, 2, 2]
    torch.set_num_threads(1)
    assert [asked(accelerated(model), length) for length in (4, 7, 9)] == [1, 1, 1]


def test_a_spread_program_is_found_by_all_who_may_take_as_many_threads(built, monkeypatch):
    model = force_field()
    built(model, 1, 2)
    assert asked(accelerated(model), 9) == 2  # on three threads
    monkeypatch.setenv("SCIWM_THREADS", "16")
    assert asked(accelerated(model), 4) == 2
    built(model, 8, 32)
    assert asked(accelerated(model), 4) == 8
    monkeypatch.setenv("SCIWM_THREADS", "40")
    assert asked(accelerated(model), 4) == 32
    assert asked(accelerated(model, threads=1), 9) == 1


def test_compile_takes_the_threads_that_evaluations_do(built, monkeypatch):
    model = force_field()
    built(model, 1, 2, 5)
    monkeypatch.setenv("SCIWM_THREADS", "5")
    usual, two = World(Archive(model)), World(Archive(model), threads=2)
    built(model, 3)  # which nobody asks for
    usual.compile()
    two.compile()
    assert usual.energy(molecule()) == 5
    assert two.energy(molecule()) == 2


def test_a_thread_that_begins_during_small_work_has_as_many_as_ever():
    found = []

    def look():
        found.append(threads_for(100 * SLOTS_PER_THREAD))
        with on_threads(2):
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())

    for count in (1, 2):
        with on_threads(count):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            assert torch.get_num_threads() == count
        assert torch.get_num_threads() == 3
    assert found == [3, 2, 3] * 2


def test_a_thread_may_have_a_number_of_its_own():
    found = []

    def look():
        torch.set_num_threads(2)
        found.append(threads_for(100 * SLOTS_PER_THREAD))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [2]
    assert torch.get_num_threads() == 3
