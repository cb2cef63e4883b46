"""The Gaussian process is the one of the textbook, whatever it is asked."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from sciwm.discovery.planners.acquisition import ExpectedImprovement, Greedy
from sciwm.discovery.pool_study import study_pool
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.surrogate.fingerprints import morgan, similarity
from sciwm.discovery.surrogate.predictors import tanimoto
from sciwm.discovery.surrogate.predictors.feature_table import FeatureTable
from sciwm.discovery.surrogate.predictors.kernels import JITTER, Similarities, loss, prior
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess

ENDS = ["C", "N", "O", "F", "Cl", "Br", "C#N", "OC", "C=O", "c1ccccc1"]
SMILES = [f"{a}CC{'C' * n}{b}" for n in range(3) for a in ("C", "N", "O", "FC") for b in ENDS]


def property_of(smiles):
    """Depends on atoms and length: something that fingerprints can learn."""
    return np.array([3.0 * s.count("O") - 2.0 * s.count("N") + 0.5 * len(s) for s in smiles])


def cheap(smiles):
    """Like the property, with an error, in columns of very different sizes."""
    return np.stack([1e3 * property_of(smiles) + 300 * np.sin(np.arange(len(smiles))),
                     np.array([len(s) for s in smiles])], axis=1)  # fmt: skip


def table_of(smiles):
    """Features of each molecule, the same whatever the others."""
    known = dict(zip(SMILES, cheap(SMILES), strict=True))
    return np.array([known[one] for one in smiles])


@pytest.fixture(params=[None, table_of], ids=["structure", "features"])
def model(request):
    return TanimotoGaussianProcess(["x"], request.param)


def split(n=60, seed=0):
    order = np.random.default_rng(seed).permutation(len(SMILES))
    return [SMILES[i] for i in order[:n]], [SMILES[i] for i in order[n:]]


def covariance_by_hand(model, a, b):
    column = model._columns[0]
    total = np.exp(column.logs[1]) * similarity(morgan(a), morgan(b))
    if model._features is None:
        return total
    training = model._features(split()[0])
    x, y = ((model._features(s) - training.mean(0)) / training.std(0) for s in (a, b))
    distance = ((x[:, None] - y[None]) ** 2).mean(-1)
    linear, gaussian, length = np.exp(column.logs[2:])
    return total + linear * (x @ y.T) / 2 + gaussian * np.exp(-distance / (2 * length**2))


def test_the_posterior_is_that_of_direct_algebra(model):
    train, test = split()
    y = property_of(train)
    model.fit(train, y[:, None])
    noise = np.exp(model._columns[0].logs[0])
    k = covariance_by_hand(model, train, train) + (noise + JITTER) * np.eye(len(train))
    across = covariance_by_hand(model, test, train)
    z = (y - y.mean()) / y.std()
    inverse = np.linalg.inv(k)
    centre = inverse.sum(0) @ z / inverse.sum()
    mean = centre + across @ inverse @ (z - centre)
    own = np.diag(covariance_by_hand(model, test, test)) + noise
    variance = own - np.einsum("ij,jk,ik->i", across, inverse, across)
    found = model.predict(test)
    assert np.allclose(found.mean[:, 0], y.mean() + y.std() * mean, rtol=1e-7)
    assert np.allclose(found.spread[:, 0], y.std() * np.sqrt(variance), rtol=1e-5)
    assert not np.allclose(found.spread[:, 0], y.std() * np.sqrt(own), rtol=1e-2)


@pytest.mark.parametrize("features", [False, True])
def test_the_gradient_of_the_likelihood_agrees_with_finite_differences(features):
    rng = np.random.default_rng(0)
    prints = morgan(SMILES[:25])
    table = rng.normal(size=(25, 3))
    distances = ((table[:, None] - table[None]) ** 2).mean(-1)
    parts = (table @ table.T / 3, distances) if features else (None, None)
    similarities = Similarities(similarity(prints, prints), *parts)
    values = rng.normal(size=25)
    for _ in range(3):
        logs = prior(similarities)[0] + rng.normal(size=5 if features else 2)
        numeric = approx_fprime(logs, lambda x: loss(similarities, values, x)[0], 1e-6)
        exact = loss(similarities, values, logs)[1]
        assert np.allclose(exact, numeric, rtol=1e-4, atol=1e-4)
        assert not np.allclose(exact * 1.01, numeric, rtol=1e-4, atol=1e-4)


def test_the_likelihood_is_that_of_a_normal_distribution():
    values = np.random.default_rng(0).normal(size=25)
    tanimoto_part = similarity(morgan(SMILES[:25]), morgan(SMILES[:25]))
    similarities = Similarities(tanimoto_part)
    medians, widths = prior(similarities)
    logs = medians + 0.3 * widths
    k = np.exp(logs[1]) * tanimoto_part + (np.exp(logs[0]) + JITTER) * np.eye(25)
    inverse = np.linalg.inv(k)
    centre = inverse.sum(0) @ values / inverse.sum()
    expected = -multivariate_normal(np.full(25, centre), k).logpdf(values) + 0.5 * 2 * 0.3**2
    assert loss(similarities, values, logs)[0] == pytest.approx(expected, rel=1e-9)


def test_it_learns_what_structure_determines(model):
    train, test = split()
    model.fit(train, property_of(train)[:, None])
    error = model.predict(test).mean[:, 0] - property_of(test)
    assert error.std() < 0.3 * property_of(test).std()


def test_leaving_one_out_agrees_with_fits_that_leave_one_out(model, monkeypatch):
    train, _ = split(20)
    y = property_of(train)[:, None]
    model.fit(train, y)
    found = model.leave_one_out()
    column = model._columns[0]
    # The same hyperparameters and the same constant mean, in the same units.
    kernel = covariance_for(model, train)
    z = (y[:, 0] - column.centre) / column.scale - column.solution.mean
    for i in (0, 7, 19):
        rest = np.delete(np.arange(20), i)
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)], kernel[rest, i])
        mean = column.centre + column.scale * (column.solution.mean + weights @ z[rest])
        variance = kernel[i, i] - weights @ kernel[rest, i]
        assert found.mean[i, 0] == pytest.approx(mean, rel=1e-6)
        assert found.spread[i, 0] == pytest.approx(column.scale * np.sqrt(variance), rel=1e-6)
        assert abs(found.mean[i, 0] - model.predict([train[i]]).mean[0, 0]) > 1e-6


def covariance_for(model, smiles):
    """Among training molecules, from the factor it keeps."""
    factor = model._columns[0].solution.factor
    return factor @ factor.T


def test_a_molecule_measured_twice_counts_more_and_breaks_nothing(model):
    train, _ = split(30)
    y = property_of(train)
    model.fit([*train, *train[:10]], np.concatenate([y, y[:10] + 0.01])[:, None])
    found = model.predict(train)
    assert np.isfinite(found.mean).all()
    assert (found.spread > 0).all()


def test_outcomes_are_learnt_apart_and_missing_values_are_left_out():
    train, test = split()
    y = property_of(train)
    both = np.stack([y, -y], axis=1)
    both[::3, 1] = np.nan
    model = TanimotoGaussianProcess(["x", "minus_x"])
    model.fit(train, both)
    rows = np.isfinite(both[:, 1])
    alone = TanimotoGaussianProcess(["minus_x"])
    alone.fit([s for s, keep in zip(train, rows, strict=True) if keep], both[rows, 1:])
    found, expected = model.predict(test), alone.predict(test)
    assert np.allclose(found.mean[:, 1], expected.mean[:, 0])
    assert not np.allclose(found.mean[:, 1], -found.mean[:, 0])
    assert np.isnan(model.leave_one_out().mean[::3, 1]).all()


def test_what_cannot_be_read_is_unknown_and_flagged(model):
    train, test = split()
    model.fit(train, property_of(train)[:, None])
    model._features = model._features and (lambda s: np.full((len(s), 2), np.nan))
    found = model.predict(["not a molecule", test[0]])
    assert np.isnan(found.mean[0, 0])
    assert found.flags[0] == "no molecule that can be read"
    assert np.isfinite(found.mean[1, 0])
    assert found.flags[1] == (None if model._features is None else "features missing")


def test_predicting_in_pieces_changes_nothing(model, monkeypatch):
    train, test = split()
    model.fit(train, property_of(train)[:, None])
    whole = model.predict(test)
    monkeypatch.setattr(tanimoto, "_CHUNK", 7)
    assert np.allclose(model.predict(test).mean, whole.mean, rtol=1e-12)
    assert model.predict([]).mean.shape == (0, 1)


def test_the_version_changes_with_what_was_learnt_and_only_then(model):
    train, _ = split(20)
    y = property_of(train)[:, None]
    versions = []
    for values in (y, y, y + 1e-9):
        model.fit(train, values)
        versions.append(model.version)
    assert versions[0] == versions[1] != versions[2]


def test_one_molecule_and_equal_values_are_enough_to_begin(model):
    for n in (1, 5):
        model.fit(SMILES[:n], np.full((n, 1), 2.0))
        assert np.allclose(model.predict(SMILES[10:12]).mean, 2.0)
        assert (model.predict(SMILES[10:12]).spread > 0.1).all()


def test_nothing_to_learn_is_said(model):
    with pytest.raises(RuntimeError, match="call fit first"):
        model.predict(SMILES[:1])
    with pytest.raises(ValueError, match="no molecule has a finite value of x"):
        model.fit(SMILES[:1], np.array([[np.nan]]))
    with pytest.raises(ValueError, match="need values of that shape"):
        model.fit(SMILES[:1], np.zeros(1))


def test_hyperparameters_of_many_molecules_come_from_some_of_them(monkeypatch):
    monkeypatch.setattr(tanimoto, "_FITTED_ROWS", 40)
    train, test = split(100)
    model = TanimotoGaussianProcess(["x"])
    model.fit(train, property_of(train)[:, None])
    error = model.predict(test).mean[:, 0] - property_of(test)
    assert error.std() < 0.3 * property_of(test).std()


def test_a_table_of_features_finds_molecules_however_they_are_written(tmp_path):
    file = tmp_path / "features.csv"
    file.write_text("smiles,level,gap\nOCC,1.5,2\nC1=CC=CC=C1,,3\n")
    features = FeatureTable(file, ["gap", "level"])
    expected = [[2, 1.5], [3, np.nan], [np.nan, np.nan]]
    assert np.array_equal(features(["CCO", "c1ccccc1", "CC"]), expected, equal_nan=True)
    with pytest.raises(ValueError, match="no column energy"):
        FeatureTable(file, ["energy"])
    file.write_text("smiles,level\nCC,high\n")
    with pytest.raises(ValueError, match="line 2"):
        FeatureTable(file, ["level"])


def test_a_replay_finds_the_best_sooner_than_chance_and_repeats():
    values = property_of(SMILES)[:, None]
    objective = Objective.parse("minimize abs(x - 4.2)", {"x": ""})
    best = int(np.abs(values[:, 0] - 4.2).argmin())

    def calls(seed):
        model = TanimotoGaussianProcess(["x"])
        return study_pool(
            SMILES, values, objective, model, ExpectedImprovement(), seed, 5, 1, None, [best]
        )

    found = [calls(seed) for seed in range(3)]
    assert all(one.order[-1] == best or best in one.order[:5] for one in found)
    assert np.mean([len(one.order) for one in found]) < len(SMILES) / 4
    assert calls(1).order == found[1].order


def test_a_replay_shows_the_predictor_only_what_was_chosen():
    class Witness(TanimotoGaussianProcess):
        def fit(self, smiles, values):
            seen.append(list(smiles))
            super().fit(smiles, values)

    seen = []
    objective = Objective.parse("maximize x", {"x": ""})
    values = property_of(SMILES)[:, None]
    found = study_pool(
        SMILES, values, objective, Witness(["x"]), Greedy(), 0, 5, 3, 12, diversity=0.5
    )
    assert [len(one) for one in seen] == [5, 8, 11]
    assert seen[-1] == [SMILES[i] for i in found.order[:11]]
    assert len(set(found.order)) == len(found.order) == 12
    assert [one.shape for one in found.inside] == [(3, 1), (3, 1), (1, 1)]
