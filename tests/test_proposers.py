"""Proposers give new, sound, canonical molecules, the same ones for one seed, and learn."""

import gzip

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors

from sciwm.discovery.planners.proposers.edits import Edit, EditSpace, RandomEdits
from sciwm.discovery.planners.proposers.fragments import Fragments
from sciwm.discovery.planners.proposers.genetic import Genetic
from sciwm.discovery.planners.proposers.library import Library, read_library
from sciwm.discovery.planners.proposers.mixture import Mixture
from sciwm.discovery.planners.proposers.policy import PolicyGradient
from sciwm.discovery.planners.proposers.population import Population
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.planners.proposers.selfies_edits import SelfiesEdits
from sciwm.discovery.planners.proposers.substituents import Substituents
from sciwm.discovery.problem.hypothesis import Candidate

START = [
    "CC(=O)Nc1ccc(O)cc1",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "COc1ccc2[nH]ccc2c1CCNC(C)=O",
    "C[C@H](N)C(=O)OCc1ccccc1",
    "O=[N+]([O-])c1ccccc1OCC",
]
DIAZEPAM = "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21"
MAKERS = [RandomEdits, Genetic, SelfiesEdits, Fragments, Substituents, PolicyGradient]


def asked(proposer, n=20, seed=0):
    return proposer.ask(n, np.random.default_rng(seed))


def scored(candidates, score):
    return [Scored(one, score(one.smiles), 1.0) for one in candidates]


def faults(candidates, known=()):
    """What the promises of a proposer forbid."""
    found = []
    for one in candidates:
        molecule = Chem.MolFromSmiles(one.smiles)
        if molecule is None or Chem.MolToSmiles(molecule) != one.smiles:
            found.append(f"{one.smiles} is not canonical")
        if "." in one.smiles or "*" in one.smiles:
            found.append(f"{one.smiles} is no single molecule")
        if molecule and molecule.GetNumHeavyAtoms() > 40:
            found.append(f"{one.smiles} is too large")
        if any(Chem.CanonSmiles(parent) != parent for parent in one.parents):
            found.append(f"parents {one.parents}")
    smiles = [one.smiles for one in candidates]
    if len(set(smiles)) < len(smiles) or set(smiles) & set(known):
        found.append("repeats")
    return found


@pytest.mark.parametrize("maker", MAKERS)
def test_candidates_are_canonical_new_and_have_parents(maker, capfd):
    proposer = maker(START)
    first = asked(proposer, 10)
    told = [Candidate("CCO", "another"), Candidate("c1ccccc1", "another")]
    proposer.tell(scored(told, len) + scored(first, len))
    second = asked(proposer, 10, seed=1)
    known = [Chem.CanonSmiles(smiles) for smiles in START] + ["CCO", "c1ccccc1"]
    assert len(first) == len(second) == 10
    assert not faults(first, known[: len(START)])
    assert not faults(first + second)
    assert not faults(second, known)
    assert all(one.parents and one.proposer == proposer.name for one in first + second)
    assert capfd.readouterr().err == ""  # RDKit says nothing of what failed on the way


def test_the_check_of_candidates_catches_bad_ones():
    bad = [Candidate("OCC", "x"), Candidate("C.C", "x"), Candidate("CC*", "x"), Candidate("C", "x")]
    assert len(faults([*bad, bad[-1]])) >= 4
    assert faults([Candidate("C", "x")], known=["C"])


@pytest.mark.parametrize("maker", MAKERS)
def test_one_seed_gives_one_sequence(maker):
    def run(seed):
        proposer = maker(START)
        first = asked(proposer, 6, seed)
        proposer.tell(scored(first, len))
        return first + asked(proposer, 6, seed + 1)

    assert run(3) == run(3)
    assert run(3) != run(4)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("start", [[], ["C"], [DIAZEPAM], ["[H][H]"], ["OCl(=O)(=O)=O"]])
def test_few_or_odd_starts_are_no_trouble(maker, start):
    assert not faults(asked(maker(start), 4))


@pytest.mark.parametrize("maker", [RandomEdits, Genetic, SelfiesEdits, Substituents])
@pytest.mark.parametrize("start", ["c1ccccc1", DIAZEPAM])
def test_one_ancestor_is_enough(maker, start):
    assert len(asked(maker([start]), 10)) == 10


@pytest.mark.parametrize("maker", [Genetic, SelfiesEdits, Fragments, Substituents])
def test_an_empty_population_waits_for_the_scores_of_others(maker):
    proposer = maker()
    assert asked(proposer) == []
    proposer.tell([Scored(Candidate(Chem.CanonSmiles(s), "another"), 1.0) for s in START])
    assert len(asked(proposer, 5)) == 5


@pytest.mark.parametrize("maker", MAKERS)
def test_a_start_that_is_no_molecule_is_named(maker):
    with pytest.raises(ValueError, match="water"):
        maker(["C", "water"])


@pytest.mark.parametrize("maker", MAKERS)
def test_no_candidate_exceeds_the_size_limit(maker):
    candidates = asked(maker(START, max_heavy=14), 5)
    assert candidates
    assert all(Chem.MolFromSmiles(one.smiles).GetNumHeavyAtoms() <= 14 for one in candidates)


def test_a_population_keeps_the_best_and_forgets_the_failed():
    population = Population(["C", "N", "O"], size=2)
    told = {"CC": 1.0, "CCC": 3.0, "CCCC": 2.0, "C": None, "CN": float("nan")}
    population.tell([Scored(Candidate(s, "x"), score) for s, score in told.items()])
    assert population.ranked() == ["CCC", "CCCC"]
    population.tell([Scored(Candidate("CCC", "x"), None)])
    assert population.ranked()[0] == "CCCC"
    rng = np.random.default_rng(0)
    picks = [population.pick(rng) for _ in range(300)]
    assert picks.count("CCCC") > picks.count("N")


def test_a_genetic_algorithm_climbs_and_an_unguided_one_does_not():
    def last(score):
        proposer, rng = Genetic(START), np.random.default_rng(0)
        for _ in range(8):
            candidates = proposer.ask(20, rng)
            proposer.tell(scored(candidates, score))
        return np.mean([Descriptors.MolLogP(Chem.MolFromSmiles(c.smiles)) for c in candidates])

    guided = last(lambda smiles: Descriptors.MolLogP(Chem.MolFromSmiles(smiles)))
    unguided = last(lambda smiles: float(hash_of(smiles)))
    assert guided > unguided + 1


def hash_of(smiles):
    return sum(map(ord, smiles)) % 97


# Edits


def test_every_edit_gives_sound_molecules_at_its_site():
    space = EditSpace()
    used, failed, total = set(), 0, 0
    for smiles in [*START, "C1CCSC1", "CC#N", "BrCCCl", "CCCCCCC"]:
        molecule = space.prepared(smiles)
        for action in space.actions(molecule)[::3]:
            made = space.apply(molecule, action)
            used.add(action.edit)
            total += 1
            failed += made is None
            products = space._reactions[action.edit].RunReactants((molecule,))
            site = next(
                atom.GetIntProp("react_atom_idx")
                for atom in products[action.match][0].GetAtoms()
                if atom.HasProp("old_mapno") and atom.GetIntProp("old_mapno") == 1
            )
            assert site == action.site
    assert failed < 0.02 * total
    assert len(used) > 0.9 * len(space.edits)


def test_an_edit_does_what_its_name_says():
    space = EditSpace([Edit("add fluorine", "[#6;!H0:1]>>[#6:1]-F")])
    pyrrole = space.prepared("c1cc[nH]c1")
    made = {space.apply(pyrrole, action) for action in space.actions(pyrrole)}
    assert made == {Chem.CanonSmiles("Fc1ccc[nH]1"), Chem.CanonSmiles("Fc1cc[nH]c1")}


@pytest.mark.parametrize("smarts", ["[C:1]>>", "nonsense", "[C:1].[N:2]>>[C:1][N:2]"])
def test_an_edit_that_is_no_reaction_of_one_molecule_is_refused(smarts):
    with pytest.raises(ValueError, match="odd one"):
        EditSpace([Edit("odd one", smarts)])


def test_substituents_are_exchanged_and_added():
    made = {one.smiles for one in asked(Substituents(["Cc1ccccc1"], groups=["F"]), 20)}
    expected = ["Fc1ccccc1", "FCc1ccccc1", "Cc1ccccc1F", "Cc1cccc(F)c1", "Cc1ccc(F)cc1"]
    assert {Chem.CanonSmiles(smiles) for smiles in expected} <= made
    with pytest.raises(ValueError, match="no group"):
        Substituents(["C"], groups=["F.F"])


def test_recombination_uses_pieces_of_both_parents():
    candidates = asked(Fragments(["COc1ccccc1", "CC(=O)NCc1ccncc1"]), 5)
    assert candidates
    assert any(len(one.parents) == 2 for one in candidates)


# Policy


def fluorines(smiles):
    return float(smiles.count("F"))


def late_reward(proposer, score, rounds=8):
    rng, rewards = np.random.default_rng(0), []
    for _ in range(rounds):
        candidates = proposer.ask(24, rng)
        proposer.tell(scored(candidates, score))
        rewards.append(np.mean([fluorines(one.smiles) for one in candidates]))
    return np.mean(rewards[-2:])


def test_a_policy_learns_what_random_edits_do_not():
    start = ["c1ccccc1", "CCOC"]
    learned = late_reward(PolicyGradient(start), fluorines)
    random = late_reward(RandomEdits(start), fluorines)
    assert learned > random + 2


def test_a_policy_learns_nothing_from_rewards_without_meaning():
    assert late_reward(PolicyGradient(["c1ccccc1", "CCOC"]), lambda _: 1.0) < 2


def test_a_settled_policy_still_finds_something_new():
    proposer, rng = PolicyGradient(["C"], depth=3), np.random.default_rng(0)
    counts = []
    for _ in range(12):
        candidates = proposer.ask(10, rng)
        counts.append(len(candidates))
        proposer.tell(scored(candidates, fluorines))
    assert min(counts) == 10


def test_failed_candidates_are_no_trouble_to_a_policy():
    proposer = PolicyGradient(START)
    for seed in range(3):
        proposer.tell([Scored(one, None) for one in asked(proposer, 9, seed)])
    assert len(asked(proposer, 9, 7)) == 9


# Mixture


class Chain:
    """Gives alkanes of its own length; proof material for mixtures."""

    def __init__(self, name, end, most=10_000):
        self.name, self.end, self.given, self.most = name, end, 0, most

    def ask(self, n, rng):
        n = min(n, self.most - self.given)
        self.given += n
        first = self.given - n + 1
        return [Candidate("C" * (first + i) + self.end, self.name) for i in range(n)]

    def tell(self, scored):
        pass


def shares(costs, rounds=25, floor=0.05):
    mixture, rng = Mixture([Chain("good", "O"), Chain("bad", "N")], floor), np.random.default_rng(0)
    for _ in range(rounds):
        told = [
            Scored(one, rng.random() + (one.proposer == "good"), costs[one.proposer])
            for one in mixture.ask(10, rng)
        ]
        mixture.tell(told)
    total = sum(mixture.given.values())
    return {name: given / total for name, given in mixture.given.items()}


def test_the_better_member_is_asked_more_and_the_other_keeps_its_floor():
    given = shares({"good": 1.0, "bad": 1.0})
    assert given["good"] > 0.8
    assert given["bad"] >= 0.05


def test_hits_count_per_second_of_the_reference():
    given = shares({"good": 100.0, "bad": 1.0})
    assert given["good"] < shares({"good": 1.0, "bad": 1.0})["good"]


def test_scores_that_cost_nothing_count_while_there_are_no_others():
    assert shares({"good": 0.0, "bad": 0.0})["good"] > 0.8


def test_an_imagined_score_does_not_replace_a_measured_one():
    mixture = Mixture([Chain("a", "O")])
    one = Candidate("CO", "a")
    mixture.tell([Scored(one, 1.0, 5.0)])
    mixture.tell([Scored(one, 9.0)])
    assert mixture.rates() == {"a": (1.0, 5.0)}


def test_a_mixture_without_floor_may_starve_a_member():
    assert shares({"good": 1.0, "bad": 1.0}, floor=0.0)["bad"] < 0.2


def test_members_do_not_repeat_each_other_and_may_run_dry():
    mixture = Mixture([Chain("a", "O", most=7), Chain("b", "O", most=12)])
    candidates = asked(mixture, 30)
    assert sorted(one.smiles for one in candidates) == sorted("C" * i + "O" for i in range(1, 13))
    assert asked(mixture, 5) == []


@pytest.mark.parametrize("build", [lambda: Mixture([]), lambda: Mixture([Chain("a", "O")] * 2)])
def test_a_mixture_needs_members_of_different_names(build):
    with pytest.raises(ValueError, match="different names"):
        build()


def test_a_mixture_of_real_proposers_works_and_learns():
    mixture = Mixture([Genetic(START), SelfiesEdits(START), RandomEdits(START)])
    first = asked(mixture, 30)
    mixture.tell(scored(first, len))
    second = asked(mixture, 30, seed=1)
    assert not faults(first + second)
    assert len({one.proposer for one in first + second}) == 3


# Libraries

GOOD = ["CCO", "c1ccccc1", "CC(=O)O"]


def write(tmp_path, name, content):
    path = tmp_path / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def usable(rows):
    return [row.smiles for row in rows if row.problem is None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.smi", "CCO ethanol\nc1ccccc1\tbenzene\nCC(=O)O\n"),
        ("a.smi", "smiles name\r\nCCO ethanol\r\nc1ccccc1 x\r\nCC(=O)O y"),
        ("a.smi.gz", "# made by hand\nCCO\nc1ccccc1\nCC(=O)O"),
        ("a.txt", "\ufeffCCO\nc1ccccc1\nCC(=O)O\n"),
        ("a.csv", "id,SMILES,y\n1,CCO,2\n2,c1ccccc1,3\n3,CC(=O)O,4\n"),
        ("a.csv.gz", 'Smiles,note\nCCO,"two\nlines"\nc1ccccc1,"a ""b"", c"\nCC(=O)O,5" nail\n'),
        ("a.csv", "id;canonSMILES\n1;CCO\n2;c1ccccc1\n3;CC(=O)O"),
        ("a.tsv", "y\tcanonical smiles\n1\tCCO\n2\tc1ccccc1\n3\tCC(=O)O\n"),
    ],
)
def test_libraries_of_all_kinds_are_read(tmp_path, name, content):
    path = write(tmp_path, name, content)
    rows = list(read_library(path))
    assert [row.smiles for row in rows] == GOOD
    for i, row in enumerate(rows):
        assert [one.smiles for one in read_library(path, start=row.resume)] == GOOD[i + 1 :]


@pytest.mark.parametrize(
    ("name", "content", "problems"),
    [
        ("a.smi", b"CCO\n\nc1ccccc1\n\xff\xfeC\nC\0C\nCC(=O)O\n", 3),
        ("a.smi", b"CCO\n" + b"C" * 3_000_000 + b"\nc1ccccc1\nCC(=O)O", 1),
        ("a.csv", b"smiles,y\nCCO,1\nC,1,2\n\nc1ccccc1,\xe9\nc1ccccc1,2\nC\nCC(=O)O,3\n", 4),
        ("a.csv", b'smiles,y\nCCO,1\n"C,2\nc1ccccc1,3\nCC(=O)O,4\n', 1),
        ("a.csv", b'smiles,y\nCCO,1\nC,"2\nc1ccccc1,3\nC,"4\nCC(=O)O,4\n', 2),
        ("a.csv", b"smiles,y\nCCO,1\n,2\nc1ccccc1,\0\nc1ccccc1,3\nCC(=O)O,4\n", 2),
    ],
)
def test_bad_rows_come_with_a_problem_and_stop_nothing(tmp_path, name, content, problems):
    path = write(tmp_path, name, content)
    rows = list(read_library(path))
    assert usable(rows) == GOOD
    assert sum(row.problem is not None for row in rows) == problems
    ends = [row.resume for row in rows]
    assert ends == sorted(ends)


def test_a_broken_archive_gives_what_it_can(tmp_path):
    path = tmp_path / "a.smi.gz"
    data = gzip.compress("\n".join(["CCO"] * 20_000).encode())
    path.write_bytes(data[: len(data) // 2])
    rows = list(read_library(path))
    assert "damaged" in rows[-1].problem
    assert all(row.smiles == "CCO" for row in rows[:-1])


def test_a_table_without_smiles_lists_its_columns(tmp_path):
    path = write(tmp_path, "a.csv", "id,name,mol\n1,x,CCO\n")
    with pytest.raises(ValueError, match=r"\['id', 'name', 'mol'\]"):
        read_library(path)
    with pytest.raises(ValueError, match="no column 'molecule'"):
        read_library(path, "molecule")
    assert usable(read_library(path, "mol")) == ["CCO"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.smi, \.txt, \.csv"):
        read_library(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match="no library"):
        read_library(tmp_path / "absent.smi")


def sd_text():
    from rdkit.Chem import rdDistGeom

    blocks = []
    for smiles in GOOD:
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        rdDistGeom.EmbedMolecule(molecule, randomSeed=1)
        molecule.SetProp("_Name", f"name of {smiles}")
        blocks.append(Chem.MolToMolBlock(molecule) + "> <y>\n1.5\n\n$$$$\n")
    broken = "broken\n\n\n  x  y V2000\nM  END\n$$$$\n"
    return blocks[0] + broken + blocks[1] + blocks[2]


def test_sd_files_keep_properties_and_structures(tmp_path, capfd):
    path = write(tmp_path, "a.sdf", sd_text())
    rows = list(read_library(path))
    assert usable(rows) == GOOD
    assert rows[1].problem == "a record that RDKit cannot read"
    assert rows[0].columns == {"y": "1.5", "name": "name of CCO"}
    assert len(rows[0].structure) == 9
    bond = np.linalg.norm(rows[0].structure.positions[0] - rows[0].structure.positions[1])
    assert bond == pytest.approx(1.52, abs=0.05)
    assert usable(read_library(path, start=rows[1].resume)) == GOOD[1:]
    assert capfd.readouterr().err == ""


def test_a_library_offers_every_molecule_once_in_random_order(tmp_path):
    chains = ["C" * i for i in range(1, 31)]
    path = write(tmp_path, "a.smi", "\n".join([*chains, "OCC", "CCO", "nonsense", "[Na+].[Cl-]"]))
    library = Library(path)
    library.tell([Scored(Candidate("CC", "another"), 1.0)])
    rng = np.random.default_rng(0)
    given = [one.smiles for _ in range(5) for one in library.ask(10, rng)]
    assert sorted(given) == sorted([*(c for c in chains if c != "CC"), "CCO"])
    assert given != sorted(given, key=len)
    assert library.skipped == 2
    assert any("nonsense" in problem for problem in library.problems)


def test_memory_stays_flat_while_a_long_library_is_read(tmp_path):
    import tracemalloc

    path = write(tmp_path, "a.csv", "smiles,y\n" + "CCO,1\n" * 20_000)
    tracemalloc.start()
    assert sum(1 for _ in read_library(path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # holding all rows takes 10 times as much


def test_real_tables_are_read(reference_data):
    rows = list(read_library(reference_data / "aqsoldb" / "data_curated.csv"))
    assert len(rows) == 9982
    assert all(row.problem is None for row in rows)
    redox = reference_data / "redox_cobol" / "Oxidation-HBE-b3lyp-results-clean.csv"
    rows = list(read_library(redox))
    assert len(usable(rows)) > 1400
    assert rows[0].smiles == "COCOC(OC)C(C)c1ccc(N(C)C)cc1"
