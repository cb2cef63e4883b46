"""Acquisition prefers what improves, batches stay diverse, volumes are those others compute."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import chi2, norm

from sciwm.discovery.planners.acquisition import (
    ExpectedImprovement,
    Greedy,
    HypervolumeImprovement,
    Thompson,
    UpperConfidence,
    choose,
    random_controls,
)
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.pareto import free_cells, hypervolume, non_dominated, reference_point
from sciwm.discovery.surrogate.fingerprints import morgan, similarity

GAP = Objective.parse("maximize gap", {"gap": "eV"})
SINGLE = [Greedy(), UpperConfidence(1.0), ExpectedImprovement(), Thompson()]


def drawn(mean, spread, draws=2000, seed=0):
    mean, spread = np.array(mean)[:, None], np.array(spread)[:, None]
    return GAP.sample(mean, spread, ["gap"], draws, np.random.default_rng(seed))


@pytest.mark.parametrize("acquisition", SINGLE, ids=lambda a: type(a).__name__)
def test_the_better_of_two_equally_certain_molecules_is_preferred(acquisition, rng):
    found = acquisition.score(drawn([1.0, 3.0, np.nan], [0.1, 0.1, 0.1]), np.array([[2.0]]), rng)
    assert found[1] > found[0] > found[2] == -np.inf


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_upper_confidence_is_the_mean_and_some_spreads(rng):
    found = UpperConfidence(2.0).score(drawn([1.0, 0.5], [0.1, 1.0]), np.zeros((0, 1)), rng)
    assert np.allclose(found, [1.2, 2.5], atol=0.02)


def test_expected_improvement_agrees_with_its_formula(rng):
    mean, spread, best = np.array([1.0, 1.9, 2.5]), np.array([0.8, 0.1, 0.3]), 2.0
    z = (mean - best) / spread
    exact = spread * (z * norm.cdf(z) + norm.pdf(z))
    found = ExpectedImprovement().score(drawn(mean, spread, 20_000), np.array([[best], [1.0]]), rng)
    assert np.allclose(found, exact, rtol=0.02)
    assert not np.allclose(np.maximum(mean - best, 0), exact, rtol=0.02)  # what greedy would say


def test_improvement_still_ranks_what_cannot_improve(rng):
    found = ExpectedImprovement().score(drawn([1.0, 2.0], [0.01, 0.01]), np.array([[9.0]]), rng)
    assert found[0] < found[1] < 0


def test_a_requirement_weighs_improvement_by_its_probability(rng):
    objective = Objective.parse(
        "maximize gap; require survival > 0.5", {"gap": "eV", "survival": ""}
    )
    mean, spread = np.array([[3.0, 0.6], [3.0, 9.0]]), np.array([[0.1, 0.1], [0.1, 0.1]])
    samples = objective.sample(mean, spread, ["gap", "survival"], 4000, rng)
    found = ExpectedImprovement().score(samples, np.array([[2.0]]), rng)
    assert found[0] / found[1] == pytest.approx(norm.cdf(1.0), rel=0.01)
    for acquisition in (Greedy(), UpperConfidence()):
        worth = acquisition.score(samples, np.array([[2.0]]), rng)
        assert np.isfinite(worth).all()
        assert worth[0] < worth[1]


def test_thompson_chooses_each_molecule_as_often_as_it_is_the_best():
    samples = drawn([1.0, 1.2], [0.3, 0.3], 500)
    picks = [
        np.argmax(Thompson().score(samples, np.zeros((0, 1)), np.random.default_rng(s)))
        for s in range(1000)
    ]
    assert np.mean(picks) == pytest.approx(norm.cdf(0.2 / (0.3 * 2**0.5)), abs=0.05)


def test_several_goals_need_an_acquisition_for_several_goals(rng):
    with pytest.raises(ValueError, match="use HypervolumeImprovement"):
        Greedy().score(np.zeros((3, 4, 2)), np.zeros((1, 2)), rng)
    with pytest.raises(ValueError, match="two goals or more"):
        HypervolumeImprovement().score(np.zeros((3, 4, 1)), np.zeros((1, 1)), rng)


def test_the_front_is_what_nothing_dominates(rng):
    scores = rng.normal(size=(60, 3))
    scores[5] = scores[6]
    scores[7, 1] = np.nan
    expected = [
        not np.isnan(a).any() and not any((b >= a).all() and (b > a).any() for b in scores)
        for a in scores
    ]
    assert non_dominated(scores).tolist() == expected


@pytest.mark.parametrize("goals", [2, 3])
def test_free_cells_hold_what_is_not_dominated(goals, rng):
    if goals > 2:
        pytest.importorskip("botorch")
    scores = rng.normal(size=(15, goals))
    reference = np.full(goals, -1.0)
    lower, upper = free_cells(scores, reference)
    points = rng.uniform(-1, 3, size=(5000, goals))
    dominated = (scores[None] >= points[:, None]).all(-1).any(1)
    inside = ((points[:, None] > lower) & (points[:, None] < upper)).all(-1).sum(1)
    assert np.array_equal(inside, (~dominated).astype(int))


@pytest.mark.parametrize("seed", range(3))
def test_the_hypervolume_agrees_with_botorch(seed):
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("botorch.utils.multi_objective.hypervolume")
    scores = np.random.default_rng(seed).normal(size=(30, 2))
    reference = np.array([-1.0, -0.5])
    front = torch.tensor(scores[non_dominated(scores)])
    expected = module.Hypervolume(torch.tensor(reference)).compute(front)
    assert hypervolume(scores, reference) == pytest.approx(expected, rel=1e-12)
    assert hypervolume(scores[:3], reference) < expected


def test_the_hypervolume_of_nothing_is_nothing():
    assert hypervolume(np.zeros((0, 2)), np.zeros(2)) == 0
    assert hypervolume(np.array([[-1.0, 5.0]]), np.zeros(2)) == 0
    assert hypervolume(np.array([[2.0, 3.0]]), np.zeros(2)) == 6


def test_hypervolume_improvement_is_the_growth_of_the_hypervolume(rng):
    measured, samples = rng.normal(size=(8, 2)), rng.normal(size=(5, 7, 2))
    samples[0, 0] = -np.inf
    reference = np.array([-2.0, -2.0])
    before = hypervolume(measured, reference)
    expected = [
        np.mean([hypervolume(np.vstack([measured, draw]), reference) - before for draw in molecule])
        for molecule in samples
    ]
    found = HypervolumeImprovement(reference).score(samples, measured, rng)
    assert np.allclose(found, expected)
    assert (HypervolumeImprovement().score(samples, np.zeros((0, 2)), rng) >= 0).all()


def test_three_goals_agree_with_a_hypervolume_by_counting_points(rng):
    pytest.importorskip("botorch")
    measured, sample = rng.uniform(size=(6, 3)), rng.uniform(0.5, 1, size=(1, 1, 3))
    found = HypervolumeImprovement(np.zeros(3)).score(sample, measured, rng)[0]
    points = rng.uniform(size=(200_000, 3))
    new = (sample[0] >= points).all(1)
    old = (measured[None] >= points[:, None]).all(-1).any(1)
    assert found == pytest.approx((new & ~old).mean(), abs=0.005)


def test_botorch_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "botorch.utils.multi_objective.box_decompositions.non_dominated", None
    )
    with pytest.raises(ImportError, match=r"sciwm\[bo\]"):
        free_cells(np.ones((2, 3)), np.zeros(3))


def test_the_reference_point_is_a_tenth_of_the_range_below_the_front():
    found = reference_point(np.array([[0.0, 10.0], [1.0, 0.0], [-5.0, -5.0]]))
    assert np.allclose(found, [-0.1, -1.0])


ALCOHOLS = ["CCO", "CCCO", "CCCCO", "CCCCCO"]


def test_a_diverse_batch_takes_the_other_molecule_and_a_greedy_one_its_twin(rng):
    smiles = ["CCCCCO", "CCCCCCO", "c1ccccc1", *ALCOHOLS]
    scores = np.array([1.0, 0.99, 0.9, 0, 0, 0, 0])
    prints = morgan(smiles)
    assert choose(scores, prints, 2, 0.0, rng).tolist() == [0, 1]
    assert choose(scores, prints, 2, 1.0, rng).tolist() == [0, 2]


def test_a_batch_has_no_molecule_twice_and_none_that_is_unknown(rng):
    scores = np.array([1.0, np.nan, -np.inf, 1.0, 0.5])
    prints = morgan(["CCO", "CCN", "CCC", "CCO", "CC"])
    for diversity in (0.0, 0.5):
        assert sorted(choose(scores, prints, 9, diversity, rng).tolist()) == [0, 3, 4]
    assert len(choose(np.full(5, np.nan), prints, 2, 0.5, rng)) == 0


@pytest.mark.parametrize("diversity", [0.0, 0.5])
def test_ties_are_broken_at_random(diversity):
    prints = morgan(["C", "N", "O", "F"])
    first = [
        choose(np.zeros(4), prints, 1, diversity, np.random.default_rng(s))[0] for s in range(400)
    ]
    counts = np.bincount(first, minlength=4)
    assert ((counts - 100) ** 2 / 100).sum() < chi2.ppf(0.999, 3)


def test_controls_are_uniform_and_their_number_keeps_to_the_share():
    drawn_controls = [random_controls(20, 7, 0.25, np.random.default_rng(s)) for s in range(3000)]
    assert np.mean([len(one) for one in drawn_controls]) == pytest.approx(1.75, abs=0.03)
    counts = np.bincount(np.concatenate(drawn_controls), minlength=20)
    expected = counts.sum() / 20
    assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(0.999, 19)
    assert len(random_controls(3, 10, 1.0, np.random.default_rng(0))) == 3
    with pytest.raises(ValueError, match="between 0 and 1"):
        random_controls(3, 10, 1.5, np.random.default_rng(0))


def test_similarity_agrees_with_rdkit():
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    smiles = [*ALCOHOLS, "c1ccccc1", "Cc1ccccc1OC", "O=C1C=CC(=O)C=C1", "CC(C)(C)C"]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, includeChirality=True)
    prints = [generator.GetSparseCountFingerprint(Chem.MolFromSmiles(one)) for one in smiles]
    expected = [DataStructs.BulkTanimotoSimilarity(one, prints) for one in prints]
    found = similarity(morgan(smiles), morgan(smiles))
    assert np.allclose(found, expected, atol=1e-12)
    assert not np.allclose(similarity(*[morgan(smiles, counts=False)] * 2), expected, atol=1e-2)


def test_a_molecule_without_environments_resembles_only_its_like():
    prints = morgan(["CCO", "no molecule", ""])
    assert similarity(prints, prints).tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 1]]


def test_nothing_here_loads_torch():
    code = (
        "import sys, sciwm.discovery.planners.acquisition, sciwm.discovery.surrogate.calibration\n"
        "import sciwm.discovery.surrogate.predictors.tanimoto, sciwm.discovery.problem.objective.objective\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
