"""Objectives mean what their text says, in units, and nothing in the text can do anything else."""

import math

import numpy as np
import pytest

from sciwm.core.units import KCAL_PER_MOL
from sciwm.discovery.problem.objective.lexer import LONGEST
from sciwm.discovery.problem.objective.objective import Objective, ObjectiveError

UNITS = {
    "gap": "eV",
    "electron_affinity": "eV",
    "potential": "V",
    "sa_score": "",
    "solvation_energy": "kcal/mol",
    "survival": "",
    "dipole": "e Å",
    "polarisability": "Å³",
    "solubility": "log10 mol/L",
}

SOUND = [
    "maximize electron_affinity",
    "minimise abs(potential - 1.55 V)",
    "maximize sigmoid(gap, 2 eV, 4 eV) * step(sa_score < 4)",
    "maximize electron_affinity; minimize solvation_energy; require sa_score < 4; require survival > 0.9",
    "maximize gap; require 2 eV < gap <= 100 kcal/mol and sa_score < 4",
    "maximize solvation_energy / -5 kcal/mol * survival",
    "maximize 2 eV/gap - survival**2",
    "minimize max(dipole - 0.3 e Å, dipole - 2 D)",
    "maximize polarisability + 3 Å³; minimize abs(solubility + 2 log10 mol/L)",
    "maximize exp(log(gap / (1 eV))) + sqrt(gap**2) / (1 eV)",
    "maximize target(gap, 3 eV, 0.5 eV) + double_sigmoid(gap, 2 eV, 4 eV, 0.1 eV)",
]


def scores(text, **values):
    """Of outcomes given as numbers or lists."""
    found = Objective.parse(text, UNITS)
    return found.evaluate({name: np.array(value, dtype=float) for name, value in values.items()})


@pytest.mark.parametrize("text", SOUND)
def test_the_text_of_an_objective_parses_to_the_same_objective(text):
    objective = Objective.parse(text, UNITS)
    assert Objective.parse(str(objective), UNITS) == objective


def test_two_objectives_that_differ_in_one_number_are_not_the_same():
    assert Objective.parse("maximize gap - 1 eV", UNITS) != Objective.parse(
        "maximize gap - 2 eV", UNITS
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("gap", 3.0),
        ("gap - 23.060548 kcal/mol", 2.0),
        ("-gap * survival / survival", -3.0),
        ("2 eV - -gap - 1 eV", 4.0),
        ("gap / 2 / 3", 0.5),
        ("-survival**2", -0.25),
        ("2 * survival**-1 + 1", 5.0),
        ("(gap + 1 eV) * survival", 2.0),
        ("min(gap, 2 eV, 5 eV) + max(gap, 500 meV)", 5.0),
        ("log(gap / (1 eV))", math.log(3)),
        ("exp(survival)", math.exp(0.5)),
        ("sqrt(gap**2)", 3.0),
        ("sigmoid(gap, 2 eV, 3 eV)", 0.95),
        ("sigmoid(gap, 3 eV, 5 eV)", 0.05),
        ("reverse_sigmoid(gap, 2 eV, 4 eV)", 0.5),
        ("double_sigmoid(gap, 3 eV, 9 eV, 1 eV)", 0.5),
        ("target(gap, 2 eV, 1 eV)", math.exp(-0.5)),
        ("step(gap > 2 eV) + step(2 eV < gap < 2.5 eV)", 1.0),
        ("step(gap >= 3 eV and survival <= 0.5)", 1.0),
        ("solvation_energy", -5 * KCAL_PER_MOL),
        ("dipole - 2 D", 2 - 2 * 0.20819433),
        ("gap**2 - 4 eV^2", 5.0),
        ("dipole * potential - 1 e V nm", -4.0),
    ],
)
def test_expressions_have_the_values_that_arithmetic_gives(expression, expected):
    found = scores(
        f"maximize {expression}", gap=3, survival=0.5, solvation_energy=-5, dipole=2, potential=3
    )
    assert found.shape == (1,)
    assert found[0] == pytest.approx(expected, rel=1e-6)


def test_smaller_is_better_where_the_goal_is_to_minimize():
    assert np.allclose(scores("minimize gap; maximize gap", gap=[1, 2]), [[-1, 1], [-2, 2]])


@pytest.mark.parametrize(
    "text", ["maximize gap * step(survival > 0.5)", "maximize max(gap, survival * 1 eV)"]
)
def test_what_is_not_known_makes_the_score_unknown(text):
    found = scores(text, gap=[1, np.nan, 1], survival=[0.9, 0.9, np.nan])[:, 0]
    assert np.isnan(found).tolist() == [False, True, True]


def test_scores_that_are_no_number_are_unknown():
    assert np.isnan(scores("maximize 1 / survival", survival=[0.0])).all()
    assert np.isnan(scores("maximize log(survival)", survival=[-1.0])).all()
    assert np.isnan(scores("maximize gap", gap=[np.inf])).all()


def test_requirements_tell_what_is_feasible_and_unknown_is_not():
    objective = Objective.parse(
        "maximize gap; require sa_score < 4; require 1 eV < gap < 3 eV", UNITS
    )
    values = {"gap": np.array([2.0, 2, 4, np.nan]), "sa_score": np.array([3.0, 5, 3, 3])}
    assert objective.feasible(values).tolist() == [True, False, False, False]
    assert objective.outcomes == ("gap", "sa_score")


def test_a_missing_outcome_is_named():
    with pytest.raises(KeyError, match="no values of gap"):
        Objective.parse("maximize gap", UNITS).evaluate({"survival": np.zeros(2)})


@pytest.mark.parametrize(
    ("text", "message", "pointed_at"),
    [
        ("maximize gpa", "did you mean gap", "gpa"),
        ("maximize sigmoidd(gap, 1 eV, 2 eV)", "did you mean sigmoid", "sigmoidd"),
        ("maximize gap + potential", "eV with a quantity in V", "+"),
        ("maximize gap - 2", "such as 1.5 eV", "-"),
        ("require gap < 2; maximize gap", "compares a quantity in eV with a plain number", "<"),
        ("maximize dipole + polarisability", "joins", "+"),
        ("maximize log(gap)", "divide by one unit", "log"),
        ("maximize gap - 2 furlong", "unknown unit 'furlong'", "furlong"),
        ("maximize 2 gap", "write [*]", "gap"),
        ("maximize gap^2", "write powers with", "gap^2"),
        ("maximize gap**9", "exponents go up to 8", "9"),
        ("maximize gap**survival", "exponent must be a number", "survival"),
        ("maximize gap.real", "'.' has no meaning", "."),
        ("maximize 'gap'", "has no meaning", "'"),
        ("maximize gap[0]", "has no meaning", "["),
        ("maximize __import__(gap)", "no function '__import__'", "__import__"),
        ("maximize lambda x: x", "has no meaning", ":"),
        ("maximize (lambda)", "no outcome 'lambda'", "lambda"),
        ("maximize (gap", "expected [)]", ""),
        ("maximize gap gap", "expected ;", "gap"),
        ("maximize gap > 2 eV", "expected ;", ">"),
        ("maximise gap; bigger survival", "begins with maximize", "bigger"),
        ("maximize 3 eV", "constant", "3"),
        ("require survival > 0.5", "no goal", ""),
        ("", "no goal", ""),
        ("maximize min(gap)", "at least 2 arguments", "min"),
        ("maximize sigmoid(gap, 4 eV, 2 eV)", "low < high", "sigmoid"),
        ("maximize sigmoid(gap, gap, 2 eV)", "only the first argument", "sigmoid"),
        ("maximize target(gap, 2 eV, 0 eV)", "width above zero", "target"),
        ("maximize gap - 1e999 eV", "too large", "1e999"),
        ("maximize gap - 1e300 kg^9", "too large", "1e300"),
        ("maximize " + 60 * "(" + "gap" + 60 * ")", "nested more than", "("),
        ("maximize " + 60 * "-" + "gap", "nested more than", "-"),
        ("maximize survival" + 300 * "+1", "more than 200 operations", "+"),
        ("maximize gap" + LONGEST * " ", "at most 2000", ""),
    ],
)
def test_a_text_that_is_not_sound_is_refused_and_the_place_shown(text, message, pointed_at):
    with pytest.raises(ObjectiveError, match=message) as caught:
        Objective.parse(text, UNITS)
    _, shown, pointer = str(caught.value).split("\n")
    marked = shown[pointer.index("^") : len(pointer)]
    assert marked.startswith(pointed_at)
    assert text[caught.value.position :].startswith(pointed_at)


def test_a_tiny_exponent_costs_no_memory():
    assert scores("maximize gap**1e-999999999 * survival", gap=3, survival=1)[0] == 1


def test_draws_follow_the_normal_distribution_and_repeat_with_the_seed():
    objective = Objective.parse("maximize gap", UNITS)
    mean, spread = np.array([[1.0], [2.0]]), np.array([[0.1], [2.0]])
    draws = [
        objective.sample(mean, spread, ["gap"], 2000, np.random.default_rng(3)) for _ in range(2)
    ]
    assert draws[0].shape == (2, 2000, 1)
    assert np.array_equal(*draws)
    assert np.allclose(draws[0].mean(axis=1), mean, atol=0.01 * spread)
    assert np.allclose(draws[0].std(axis=1), spread, rtol=0.02)
    assert abs(np.corrcoef(draws[0][0, :, 0], draws[0][1, :, 0])[0, 1]) < 0.1


def test_the_share_of_draws_that_are_feasible_is_the_probability():
    objective = Objective.parse("maximize gap; require survival > 0.5", UNITS)
    mean, spread = np.array([[9.0, 1.0, 0.6], [9.0, np.nan, 0.6]]), np.full((2, 3), 0.1)
    names = ["unused", "gap", "survival"]
    draws = objective.sample(mean, spread, names, 4000, np.random.default_rng(0))[:, :, 0]
    assert np.isneginf(draws[0]).mean() == pytest.approx(0.158655, abs=1e-3)
    assert np.isnan(draws[1]).all()


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ("maximize sa_score / (sa_score - sa_score)", {"sa_score": 2.5}, "division of 2.5 by 0"),
        ("maximize log(0 * sa_score)", {"sa_score": 2.5}, "log of 0"),
        ("maximize 3 + sqrt(log(survival))", {"survival": 0.5}, "sqrt of -0.6931"),
        ("minimize (survival - 2) ** 0.5", {"survival": 1.0}, "-1 to the power of 1/2"),
        ("maximize exp(sa_score)", {"sa_score": 1e4}, "exp of 1e+04"),
        (
            "maximize survival; require log(sa_score) < 2",
            {"sa_score": -1, "survival": 1},
            "log of -1",
        ),
    ],
)
def test_a_score_that_is_not_finite_has_a_reason(text, values, reason):
    objective = Objective.parse(text, UNITS)
    assert reason in objective.flaw(values)
    columns = {name: np.array([value]) for name, value in values.items()}
    known = np.isfinite(objective.evaluate(columns)).all() and objective.feasible(columns).all()
    assert not known


@pytest.mark.parametrize(
    "values", [{"sa_score": 2.0, "survival": 0.5}, {"sa_score": math.nan, "survival": -1.0}]
)
def test_what_is_finite_or_unknown_needs_no_reason(values):
    # Infinite in between, finite in the end.
    text = "maximize exp(log(0 * survival)); maximize log(sa_score); require survival > 1"
    assert Objective.parse(text, UNITS).flaw(values) is None
