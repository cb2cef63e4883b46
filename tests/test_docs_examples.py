"""The worked examples of the documentation do what they say, each against what is known beforehand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.morse import MorsePotential

from sciwm.core.state import State
from sciwm.data.h5md import H5MDFile
from sciwm.data.importers import detection
from sciwm.data.importers.convert import convert
from sciwm.data.importers.source import ImportOptions, SourceError
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.simulation.observables.motion import Motion
from sciwm.simulation.references.ase_potentials import AsePotential, emt
from sciwm.simulation.rollout import Rollout

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
BOND, WELL = 1.1, 5.0


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nitrogen(distance=1.15):
    return Atoms("N2", [[0, 0, 0], [0, 0, distance]])


def morse():
    """A bond whose length and depth are known."""
    return AsePotential(lambda: MorsePotential(r0=BOND, epsilon=WELL, rho0=3.0))


def test_the_importer_reads_what_was_written(tmp_path, monkeypatch):
    importer = example("importer").CSVTrajectory()
    path = tmp_path / "water.csv"
    lines = [f"{t},{e},{x},0,{t}" for t in (0.0, 0.5) for e, x in (("O", 0.0), ("H", 0.096))]
    path.write_text("\n".join(["time,element,x,y,z", *lines]) + "\n")
    monkeypatch.setattr(detection, "IMPORTERS", (importer, *detection.IMPORTERS))
    report = convert(path, tmp_path / "water.h5md", progress=False)
    assert report.frames == 2
    with H5MDFile(tmp_path / "water.h5md") as file:
        frame = file.trajectories[0].frame(1)
    assert frame.numbers.tolist() == [8, 1]
    np.testing.assert_allclose(frame.positions, [[0, 0, 5.0], [0.96, 0, 5.0]], atol=1e-6)
    assert frame.time == pytest.approx(500)  # fs


def test_the_importer_says_what_is_broken(tmp_path):
    importer = example("importer").CSVTrajectory()
    path = tmp_path / "broken.csv"
    path.write_text("time,element,x,y,z\n0,O,0,0\n")
    with pytest.raises(SourceError, match=r"frame 0.*Every line needs"):
        list(importer.frames(path, ImportOptions()))
    path.write_text("x,y,z\n")
    assert not importer.matches(path)


def test_the_error_of_the_observable_knows_that_frames_resemble_each_other():
    mean_distance = example("observable").mean_distance
    kept, frames = 0.9, 20_000
    kicks = np.random.default_rng(0).normal(size=frames)
    series = np.zeros(frames)
    for t in range(1, frames):
        series[t] = kept * series[t - 1] + kicks[t]
    positions = np.zeros((frames, 2, 3))
    positions[:, 1, 0] = 100 + series
    found = mean_distance(Motion(np.array([8, 1]), np.array([16.0, 1.0]), positions, 1.0), 0, 1)
    exact = 1 / (1 - kept) / np.sqrt(frames)  # of the mean of this process
    assert found.error == pytest.approx(exact, rel=0.3)
    assert abs(found.value - 100) < 4 * exact
    assert series.std() / np.sqrt(frames) < 0.3 * exact  # what ignoring it would give
    with pytest.raises(ValueError, match="no particles 0 and 2"):
        mean_distance(Motion(np.array([8, 1]), np.ones(2), positions[:2], 1.0), 0, 2)


def test_the_outcome_is_the_bond_length_of_a_known_well():
    outcome = example("outcome").MolecularLength()
    whole = State.from_ase(nitrogen()).frame(0)
    [found] = outcome.evaluate_many(morse(), [whole])
    assert not isinstance(found, Failure), found
    assert found.mean == pytest.approx(BOND, abs=1e-3)
    assert found.frames[0].energy == pytest.approx(-WELL, abs=1e-4)
    [refused] = outcome.evaluate_many(emt(), [State.from_ase(Atoms("Xe")).frame(0)])
    assert isinstance(refused, Failure)  # that world knows no xenon


def test_the_proposer_never_repeats_itself_and_follows_the_best():
    homologues = example("proposer").Homologues(["CO", "CN"], max_heavy=6)
    rng = np.random.default_rng(0)
    seen = {one.smiles for _ in range(5) for one in homologues.ask(4, rng)}
    assert {"CCO", "CCN"} <= seen
    assert "CO" not in seen
    first = example("proposer").Homologues(["CO"], max_heavy=6)
    told = first.ask(1, rng)
    assert [one.smiles for one in told] == ["CCO"]
    first.tell([Scored(told[0], 1.0)])
    following = first.ask(5, rng)
    assert following
    assert following[0].smiles == "CCCO"
    assert first.ask(5, rng) == []  # those beyond six atoms are too large


def test_the_propagator_slows_a_free_particle_as_its_equation_says():
    atom = Atoms("Ar", [[0, 0, 0]])
    state = State.from_ase(atom, dtype=torch.float64)
    state.velocities = torch.tensor([[0.01, 0.0, 0.0]], dtype=torch.float64)
    damped = example("propagator").Damped(morse(), dt=1.0, friction=0.01)
    result = Rollout(damped, every=10).run(state, 20)
    speed = result.frames[0][-1].velocities[0, 0]
    assert speed == pytest.approx(0.01 * np.exp(-0.2), rel=1e-12)


def test_the_propagator_brings_a_bond_to_rest_in_its_well():
    module = example("propagator")
    state = State.from_ase(nitrogen(), dtype=torch.float64)
    cooled = Rollout(module.Damped(morse(), 1.0, 0.2), every=100).run(state, 100).frames[0][-1]
    length = np.linalg.norm(cooled.positions[1] - cooled.positions[0])
    assert length == pytest.approx(BOND, abs=1e-4)
    kept = Rollout(module.Damped(morse(), 1.0, 0.0), every=100).run(state, 100).frames[0][-1]
    assert np.abs(kept.velocities).max() > 1e-4  # without friction nothing comes to rest
    with pytest.raises(ValueError, match="friction=-1"):
        module.Damped(morse(), 1.0, -1)
