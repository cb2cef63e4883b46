"""Compiled programs give the model's numbers, for any sizes, and say so when they do not."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from conftest import water
from torch_geometric.data import Batch

from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.interfaces.world import World
from sciwm.models.archive import Archive
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.passes import CACHED_SLOTS, bytes_per_slot, passes, slots_that_fit
from sciwm.models.encoders.encoder import Encoder
from sciwm.models.programs import compilation
from sciwm.models.programs.compilation import (
    CompiledPotential,
    accelerated,
    compile_model,
    program_file,
)
from sciwm.models.programs.tracing import (
    CompilationError,
    DeviationError,
    compile_function,
    require_same,
)
from sciwm.models.statistics import survey
from sciwm.training import force_task
from sciwm.training.compiled_loss import CompiledLoss
from sciwm.training.force_errors import (
    LOSS_VARYING,
    SUMS,
    labelled_example,
    loss_inputs,
    squared_errors,
)

pytestmark = pytest.mark.long

CUTOFF = 3.0
SINGLE = 2e-4


def force_field(seed: int = 0) -> ForceField:
    torch.manual_seed(seed)
    energies = {"H": -13.6, "O": -2041.0, "Cu": -45000.0}
    model = ForceField(Encoder(CUTOFF, channels=4, lmax=1, layers=2), reference_energies=energies)
    frames = [water(i).with_(energy=i - 2080.0, forces=np.eye(3)) for i in range(4)]
    model.adapt(survey(frames, CUTOFF, model.units, model.reference_table()))
    features = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    model.calibrate_errors(features, features, torch.ones(200).long(), features.norm(dim=-1))
    return model


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> CompiledPotential:
    """One model, built once for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIWM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield compile_model(force_field())


def systems(kind: str) -> State:
    if kind == "crystal":
        copper = bulk("Cu", cubic=True)
        copper.rattle(0.1, seed=1)
        return State.from_ase(copper)
    if kind == "atom":
        return State.from_frame(Frame(numbers=np.array([8]), positions=np.zeros((1, 3))))
    if kind == "mixed":
        pair = Frame(numbers=np.array([1, 1]), positions=np.array([[0, 0, 0.0], [0, 0, 0.8]]))
        return State.collate([State.from_frame(one) for one in (water(), pair, water(3))])
    return State.collate([State.from_frame(water(i)) for i in range({"one": 1, "many": 700}[kind])])


@pytest.mark.parametrize("kind", ["one", "many", "mixed", "atom", "crystal"])
def test_a_program_gives_what_the_model_gives(program, kind):
    state = attach_pairs(systems(kind), CUTOFF)
    table = NeighbourTable.from_pairs(state)
    expected, found = program.model(state, table, stress=True), program(state, table, stress=True)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=SINGLE, rtol=SINGLE, equal_nan=True)
    # Elsewhere it gives something else, or nothing was compared.
    state.positions = state.positions + 0.2 * torch.rand_like(state.positions)
    assert kind == "atom" or not torch.allclose(program(state, table)[1], expected[1], atol=SINGLE)


def test_large_batches_go_in_passes_of_whole_systems():
    state = attach_pairs(systems("many"), CUTOFF)
    table = NeighbourTable.from_pairs(state)
    parts = list(passes(state, table, 200))
    assert len(parts) == 22  # 33 molecules of 6 slots in each
    for part, its_table in parts:
        assert its_table.sender.numel() <= 200
        # Nothing points outside its own pass.
        assert 0 <= int(its_table.sender.min()) <= int(its_table.sender.max()) < part.num_nodes
        assert int(its_table.reverse.max()) < its_table.sender.numel()
        assert torch.equal(part.batch.unique(), torch.arange(part.n_systems))
    assert torch.equal(torch.cat([part.positions for part, _ in parts]), state.positions)
    assert [part.n_systems for part, _ in passes(state, table, 1)] == [1] * 700


def test_passes_give_what_one_go_gives_in_boxes_too():
    model = force_field()
    copper = bulk("Cu", cubic=True)
    frames = []
    for seed in range(12):
        copper.rattle(0.1, seed=seed)
        frames += [State.from_ase(copper * (1 + seed % 2, 1, 1)), State.from_frame(water(seed))]
    state = attach_pairs(State.collate(frames), CUTOFF)
    table = NeighbourTable.from_pairs(state)
    assert table.sender.numel() < CACHED_SLOTS, "one go was meant to be one go"
    whole = model.differentiated(state, table)
    parts = [model.differentiated(*part) for part in passes(state, table, 150)]
    assert len(parts) > 6
    for one, pieces in zip(whole[:3], list(zip(*parts, strict=True))[:3], strict=True):
        assert torch.allclose(one, torch.cat(pieces), atol=SINGLE, rtol=SINGLE)
    # A pass that lost its shifts would not have passed.
    unshifted = NeighbourTable(table.sender, table.real, None, table.reverse)
    assert not torch.allclose(model.differentiated(state, unshifted)[1], whole[1], atol=0.1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_probe_finds_what_fits():
    state = attach_pairs(State.collate([systems("many")] * 3), CUTOFF).to("cuda")
    table, taken = NeighbourTable.from_pairs(state), []

    def evaluate(part, its_table):
        taken.append(torch.zeros(1000 * its_table.sender.numel(), device="cuda"))

    each = bytes_per_slot(evaluate, state, table)
    assert each == pytest.approx(4000, rel=0.01)
    free, _ = torch.cuda.mem_get_info()
    assert 0.3 * free < each * slots_that_fit(each, state.positions.device) < 0.7 * free


def test_what_a_program_was_not_built_for_goes_to_the_model(program):
    state = attach_pairs(State.from_frame(water(), torch.float64), CUTOFF)
    table = NeighbourTable.from_pairs(state)
    exact = force_field().double()
    double = CompiledPotential(exact, program.program)
    double._built_for = program._built_for
    assert torch.equal(double(state, table)[1], exact(state, table)[1])


def test_a_program_is_found_again_for_the_same_weights_only(program, monkeypatch):
    assert isinstance(accelerated(force_field()), CompiledPotential)
    other = force_field(seed=1)
    assert accelerated(other) is other
    world = World(Archive(force_field()))
    assert isinstance(world.simulator().model, CompiledPotential)
    assert program_file(other) != program_file(program.model)


def test_a_program_that_cannot_be_read_or_trusted_is_left_alone(program, monkeypatch, tmp_path):
    monkeypatch.setenv("SCIWM_CACHE", str(tmp_path))
    model = force_field()
    file = program_file(model)
    file.parent.mkdir(mode=0o700)
    file.write_bytes(b"no program")
    with pytest.warns(UserWarning, match=f"{file} is no program.*runs without it"):
        assert accelerated(model) is model
    monkeypatch.undo()
    mine = program_file(model)
    assert isinstance(accelerated(model), CompiledPotential)
    mine.chmod(0o666)
    with pytest.warns(UserWarning, match="could be written by others.*chmod go-w"):
        assert accelerated(model) is model
    mine.chmod(0o600)


@pytest.mark.parametrize("error", [AttributeError, TypeError])
def test_a_torch_whose_own_loader_is_another_loads_programs_too(program, monkeypatch, error):
    def gone(*arguments):
        raise error

    loader = torch._C._aoti.AOTIModelPackageLoader
    calls = iter([gone])

    class Other:
        load_metadata_from_package = staticmethod(loader.load_metadata_from_package)

        def __new__(cls, *arguments):
            return next(calls, loader)(*arguments)

    monkeypatch.setattr(torch._C._aoti, "AOTIModelPackageLoader", Other)
    assert isinstance(accelerated(force_field()), CompiledPotential)


def test_weights_that_changed_are_followed(program):
    model = force_field()
    followed = CompiledPotential(model, program.program)
    state = attach_pairs(State.from_frame(water()), CUTOFF)
    table = NeighbourTable.from_pairs(state)
    before = followed(state, table)[1]
    with torch.no_grad():
        model.readouts[0].weight.mul_(2.0)
    assert torch.equal(followed(state, table)[1], model(state, table)[1])
    assert not torch.allclose(followed(state, table)[1], before, atol=1e-3)


def test_where_there_is_no_cache_models_run_without(monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    model = force_field()
    monkeypatch.delenv("SCIWM_CACHE", raising=False)
    monkeypatch.setattr(compilation.Path, "home", homeless)
    assert accelerated(model) is model
    with pytest.raises(CompilationError, match="Set SCIWM_CACHE"):
        compile_model(model)
    monkeypatch.setenv("SCIWM_CACHE", str(tmp_path))
    (tmp_path / "programs").mkdir(mode=0o700)
    (tmp_path / "programs").chmod(0o777)
    with pytest.raises(CompilationError, match="could be written by others"):
        compile_model(model)


def test_a_program_is_found_whatever_number_of_threads_torch_has(program):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert isinstance(accelerated(force_field()), CompiledPotential)
    finally:
        torch.set_num_threads(threads)
    assert program_file(program.model) != program_file(program.model, threads=2)


def test_a_program_that_deviates_is_refused(program):
    def never():
        raise AssertionError("nothing differed, so nothing was to be computed again")

    other = force_field(seed=1)
    with pytest.raises(DeviationError, match=r"delete it to build it anew.* is off by"):
        compilation._checked(other, compilation.ENERGIES, program_file(program.model))
    ones = torch.ones(3)
    require_same([ones], [ones + 1e-6], never, "close enough")
    with pytest.raises(DeviationError, match="result 0"):
        require_same([ones * torch.nan], [ones], lambda: [ones.double()], "no number")
    # As inexact as the model itself is good enough; much less exact is not.
    require_same([ones + 3e-3], [ones - 1e-3], lambda: [ones.double()], "rounding")
    with pytest.raises(DeviationError, match=r"is off by 0.02.*itself is off by 0.001"):
        require_same([ones + 2e-2], [ones - 1e-3], lambda: [ones.double()], "too much")
    # Results that are noise allow nothing to those that are not.
    noise, exact = ones * 1e-7, [ones.double(), 0 * ones.double()]
    with pytest.raises(DeviationError, match="result 0"):
        require_same([0 * ones, noise], [ones, noise], lambda: exact, "beside noise")
    with pytest.raises(DeviationError, match="result 0"):
        require_same([ones], [ones * torch.inf], lambda: [ones.double()], "not finite itself")


def test_a_compiled_loss_has_the_gradient_of_the_loss():
    model = force_field()
    example = labelled_example(model, stress=True)
    varying = LOSS_VARYING[: len(example)]
    program = CompiledLoss(model, squared_errors, example, varying)
    coefficients = torch.rand(len(SUMS), generator=torch.Generator().manual_seed(0))
    for frames in ([water(1)], [water(i) for i in range(6)]):
        labels = {"energy": -2068.0, "forces": np.ones((3, 3)), "stress": np.eye(3)}
        labels |= {"cell": 9 * np.eye(3), "pbc": np.ones(3, bool)}
        batch = State.collate([State.from_frame(one.with_(**labels)) for one in frames])
        inputs = loss_inputs(model, attach_pairs(batch, CUTOFF), NeighbourTable.from_pairs(batch))
        weights = list(model.parameters())
        eager = (coefficients * squared_errors(model, *inputs)).sum()
        expected = torch.autograd.grad(eager, weights, allow_unused=True)
        loss = program(coefficients, inputs)
        model.zero_grad()
        (3 * loss).backward()
        assert torch.allclose(loss, eager, rtol=SINGLE)
        for weight, gradient in zip(weights, expected, strict=True):
            if gradient is not None:
                size = float(gradient.abs().max())
                assert torch.allclose(weight.grad, 3 * gradient, atol=SINGLE * size, rtol=SINGLE)
        # A term left out shows in the gradient.
        model.zero_grad()
        program(coefficients * torch.tensor([1.0, 1, 0, 1, 1]), inputs).backward()
        row = [name for name, _ in model.named_parameters()].index("readouts.0.weight")
        assert not torch.allclose(weights[row].grad, expected[row], rtol=0.01)


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch):
    def broken(*arguments):
        raise CompilationError("no compiler here")

    monkeypatch.setattr(force_task, "CompiledLoss", broken)
    task = force_task.ForceTask(force_field(), compiled=True)
    with pytest.warns(UserWarning, match="no compiler here.*without, slower"):
        task.on_train_start()
    assert task._compiled is None


def test_what_cannot_be_traced_is_a_compilation_error():
    def data_dependent(x):
        return (x * (1 if float(x.sum()) > 0 else 2),)

    with pytest.raises(CompilationError, match="could not be compiled"):
        compile_function(data_dependent, [torch.ones(3)], [(0,)])


def test_collating_follows_torch_geometric():
    states = [attach_pairs(State.from_frame(water(i)), CUTOFF) for i in range(3)]
    joined, reference = State.collate(states), Batch.from_data_list(states)
    for key in ("positions", "numbers", "batch", "pairs", "shifts", "cell"):
        assert torch.equal(joined[key], reference[key]), key
    assert not torch.equal(joined.pairs, torch.cat([one.pairs for one in states], dim=1))


def test_importing_the_models_does_not_import_the_compiler():
    import subprocess
    import sys

    code = (
        "import sciwm.interfaces.world, sys; sys.exit('torch._inductor.compile_fx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
