"""Candidates are refused for the right reason, quickly, and never by an exception."""

import pytest
from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

from sciwm.discovery.problem.descriptors import DESCRIPTORS, sa_score
from sciwm.discovery.problem.gates import (
    Alerts,
    ChargeAndSpin,
    Elements,
    Gate,
    Gates,
    Size,
    SyntheticAccessibility,
)
from sciwm.discovery.problem.structural_alerts import AlertCatalogue

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
RHODANINE = "O=C1NC(=S)SC1=Cc1ccccc1"
DRUGS = [
    ASPIRIN,
    RHODANINE,
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "Oc1ccc(/N=N/c2ccccc2)cc1",
    "O=C1C=CC(=O)c2ccccc12",
    "Oc1cccc(O)c1O",
    "CN(C)c1ccc(C=NNC(=O)c2ccccc2)cc1",
    "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1",
]


def refusal(gate: Gate, smiles: str) -> str | None:
    return gate.reason(Chem.MolFromSmiles(smiles))


def test_synthetic_accessibility_of_aspirin_is_as_published_with_rdkit():
    assert sa_score(Chem.MolFromSmiles(ASPIRIN)) == pytest.approx(1.58, abs=0.005)


@pytest.mark.parametrize(
    ("name", "value", "tolerance"),
    [
        ("molecular_weight", 180.16, 0.01),  # IUPAC atomic weights of C9H8O4
        ("tpsa", 63.6, 0.05),  # Ertl 2000: two carbonyls 17.07, OH 20.23, ether 9.23
        ("logp", 1.31, 0.005),  # Crippen's contributions
        ("heavy_atoms", 13, 0),
        ("rings", 1, 0),
        ("qed", 0.55, 0.005),  # Bickerton 2012
    ],
)
def test_descriptors_of_aspirin_have_their_published_values(name, value, tolerance):
    assert DESCRIPTORS[name].function(Chem.MolFromSmiles(ASPIRIN)) == pytest.approx(
        value, abs=tolerance
    )
    assert isinstance(DESCRIPTORS[name].unit, str)


@pytest.mark.parametrize("name", ["PAINS", "BRENK"])
def test_alerts_agree_with_rdkit_catalogue(name):
    parameters = FilterCatalogParams()
    parameters.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
    reference, ours = FilterCatalog(parameters), AlertCatalogue(name)
    hits = 0
    for smiles in [*DRUGS, "C", "[Na+]", "BrBr", "c1ccccc1"]:
        molecule = Chem.MolFromSmiles(smiles)
        match = reference.GetFirstMatch(molecule)
        assert ours.first(molecule) == (match.GetDescription() if match else None)
        hits += match is not None
    assert hits >= 3


def test_no_alert_of_real_libraries_is_lost_by_counting_bonds(reference_data):
    import csv

    with (reference_data / "aqsoldb" / "data_curated.csv").open() as file:
        smiles = [row["SMILES"] for row in csv.DictReader(file)][::30]
    parameters = FilterCatalogParams()
    parameters.AddCatalog(FilterCatalogParams.FilterCatalogs.PAINS)
    reference, ours = FilterCatalog(parameters), AlertCatalogue("PAINS")
    molecules = [m for text in smiles if (m := Chem.MolFromSmiles(text)) is not None]
    found = [ours.first(molecule) for molecule in molecules]
    expected = [
        match.GetDescription() if (match := reference.GetFirstMatch(molecule)) else None
        for molecule in molecules
    ]
    assert found == expected
    assert sum(name is not None for name in expected) > 8


def test_a_catalogue_that_counts_wrongly_loses_alerts():
    broken = AlertCatalogue("PAINS")
    broken._needs = broken._needs + 1
    assert broken.first(Chem.MolFromSmiles(RHODANINE)) is None


def test_the_reason_names_the_alert():
    assert refusal(Alerts("PAINS"), RHODANINE) == "PAINS alert ene_rhod_A(235)"
    assert refusal(Alerts("BRENK"), "CC(=O)Cl") == "BRENK alert acid_halide"
    assert refusal(Alerts("PAINS"), ASPIRIN) is None


def test_an_unknown_catalogue_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'NIH'.*BRENK.*PAINS"):
        Alerts("NIH")


@pytest.mark.parametrize(
    ("gate", "passes", "fails", "reason"),
    [
        (Size(max_heavy=6), "c1ccccc1", "Cc1ccccc1", "7 heavy atoms, more than 6"),
        (Size(max_atoms=5), "C", "CC", "8 atoms with hydrogens"),
        (Elements("CNO"), "CCO", "CS", "holds S; allowed are C, H, N, O"),
        (ChargeAndSpin(), "C[N+](=O)[O-]", "CC(=O)[O-]", r"net charge -1 e; allowed are \[0\]"),
        (ChargeAndSpin((0, -1)), "CC(=O)[O-]", "C[NH3+]", r"net charge \+1"),
        (ChargeAndSpin(), "C", "[CH3]", "1 unpaired electrons"),
        (ChargeAndSpin(), "O", "[CH2]", "2 unpaired electrons"),
        (ChargeAndSpin((-1, 0, 1)), "O", "[Fe+]", "odd number of electrons|unpaired"),
        (SyntheticAccessibility(2.0), ASPIRIN, "C1CC2CC1C1OC21", "accessibility .*, above 2.0"),
    ],
)
def test_a_gate_refuses_what_it_should_and_says_why(gate, passes, fails, reason):
    import re

    assert refusal(gate, passes) is None
    said = refusal(gate, fails)
    assert said is not None
    assert re.search(reason, said)


def test_hydrogen_molecules_are_easily_made():
    assert refusal(SyntheticAccessibility(2), "[H][H]") is None
    with pytest.raises(ValueError, match="no heavy atom"):
        sa_score(Chem.MolFromSmiles("[H][H]"))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Size(max_heavy=0),
        lambda: SyntheticAccessibility(0.5),
        lambda: Elements(["C", "Xx"]),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(build):
    with pytest.raises(ValueError, match=r"must be|outside|no elements"):
        build()


@pytest.mark.parametrize(
    "smiles",
    ["", " ", "C1CC", "C(C)(C)(C)(C)C", "c1cccc1", "[Na+].[Cl-]", "C*", "water", "CC é", "C\0C"],
)
def test_what_is_no_molecule_fails_at_parsing(smiles):
    molecule, failure = Gates([Size()]).judge(smiles)
    assert molecule is None
    assert failure is not None
    assert failure.stage == "parsing"
    assert failure.reason


def test_the_first_refusing_gate_gives_the_reason():
    gates = Gates([Size(max_heavy=5), Elements("C")])
    assert gates.judge("CCCCCO")[1].reason == "size: 6 heavy atoms, more than 5"
    assert gates.judge("CCO")[1].reason.startswith("elements: holds O")
    molecule, failure = gates.judge("CCC")
    assert failure is None
    assert molecule.GetNumAtoms() == 3


@pytest.mark.parametrize("smiles", ["C" * 10_000, "c1ccccc1" * 490, "C" * 3999, "[" * 10_000])
def test_huge_molecules_are_refused_at_once(smiles):
    molecule, failure = Gates().judge(smiles)
    assert molecule is None
    assert failure is not None


def test_all_gates_together_let_ordinary_molecules_through():
    gates = Gates(
        [
            Size(),
            Elements(["C", "N", "O"]),
            ChargeAndSpin(),
            SyntheticAccessibility(),
            Alerts("PAINS"),
        ]
    )
    assert gates.judge(ASPIRIN)[1] is None
