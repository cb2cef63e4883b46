"""Molecules: what SMILES become, what geometries say, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.neighborlist import natural_cutoffs, neighbor_list
from rdkit import Chem

from sciwm.core.bonds import bonds
from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles, scaffold, smiles_from_frame

DIVERSE = [
    "CCO",
    "c1ccccc1",
    "CC(=O)/C=C(/C)O",
    "O=C1C=CC(=O)C=C1",
    "[NH4+]",
    "CC(=O)[O-]",
    "C#N",
    "C1CC2CCC1C2",
    "CS(=O)(=O)c1ccc(Br)cc1",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
]


class TestEmbedding:
    @pytest.mark.parametrize("smiles", DIVERSE)
    def test_bond_lengths_give_back_the_bonds_that_the_smiles_names(self, smiles):
        frame = frame_from_smiles(smiles, seed=1)
        named = Chem.AddHs(Chem.MolFromSmiles(smiles))
        expected = {
            tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in named.GetBonds()
        }
        assert {tuple(pair) for pair in bonds(frame.numbers, frame.positions).tolist()} == expected
        assert frame.total_charge == Chem.GetFormalCharge(named)

    @pytest.mark.parametrize("smiles", DIVERSE)
    def test_the_geometry_gives_back_the_smiles(self, smiles):
        frame = frame_from_smiles(smiles, seed=1)
        flat = Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)
        found = Chem.MolFromSmiles(smiles_from_frame(frame))
        assert Chem.MolToSmiles(found, isomericSmiles=False) == flat

    def test_bond_lengths_and_angles_are_those_of_ethanol(self):
        ours = frame_from_smiles("CCO")
        theirs = molecule("CH3CH2OH")  # G2 geometry: C, C, O come in another order
        lengths = [
            sorted(np.linalg.norm(x[i] - x[j]) for i, j in bonds(z, x))
            for z, x in ((ours.numbers, ours.positions), (theirs.numbers, theirs.positions))
        ]
        np.testing.assert_allclose(*lengths, atol=0.04)

    def test_the_same_seed_gives_the_same_conformer_and_another_another(self):
        first, again, other = (frame_from_smiles("OCCCCCN", seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(first.positions, again.positions)
        distances = [np.linalg.norm(f.positions[0] - f.positions[6]) for f in (first, other)]
        assert abs(distances[0] - distances[1]) > 1e-3

    def test_stereo_centres_keep_their_hand(self):
        frame = frame_from_smiles("C[C@H](N)C(=O)O")
        assert smiles_from_frame(frame) == "C[C@H](N)C(=O)O"
        mirrored = frame.with_(positions=frame.positions * [1, 1, -1])
        assert smiles_from_frame(mirrored) == "C[C@@H](N)C(=O)O"

    def test_isotopes_carry_their_mass(self):
        assert sorted(frame_from_smiles("[2H]O[2H]").masses) == pytest.approx(
            [2.014, 2.014, 15.999], abs=1e-3
        )
        assert frame_from_smiles("O").masses is None

    def test_an_atom_and_a_molecule_without_mmff_are_built_too(self):
        assert len(frame_from_smiles("[He]")) == 1
        assert len(frame_from_smiles("CB(O)O")) == 9  # UFF knows boron, MMFF does not


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("ethanol", "cannot be read"),
        ("C1CC", "cannot be read"),
        ("CCO ethanol", "more than one word"),
        ("CC(C)(C)(C)C", "rules of valence"),
        ("c1cccc1", "rules of valence"),
        ("[Na+].[Cl-]", "2 separate pieces"),
        ("CC*", "wildcard"),
        ("C1#CC1", "no three-dimensional structure"),
        ("[Pt](Cl)(Cl)(N)N", "neither MMFF94s nor UFF"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_name_and_a_reason(smiles, reason, capfd):
    with pytest.raises(ValueError, match=reason) as refusal:
        frame_from_smiles(smiles)
    assert repr(smiles) in str(refusal.value)
    assert capfd.readouterr().err == ""  # RDKit stays quiet: the message says it all


class TestBonds:
    def test_they_are_those_of_an_independent_neighbour_list(self):
        atoms = molecule("C6H6")
        i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.25))
        expected = {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if a < b}
        assert {tuple(p) for p in bonds(atoms.numbers, atoms.positions).tolist()} == expected
        assert len(expected) == 12

    def test_a_longer_reach_bonds_more(self):
        water = molecule("H2O")
        assert len(bonds(water.numbers, water.positions)) == 2
        assert len(bonds(water.numbers, water.positions, scale=2.6)) == 3

    def test_periodic_images_count_and_make_one_bond_each(self):
        crystal = bulk("C", "diamond", cubic=True)
        cell, pbc = np.array(crystal.cell), crystal.pbc
        assert len(bonds(crystal.numbers, crystal.positions, cell, pbc)) == 16  # 8 atoms, 4 each
        assert len(bonds(crystal.numbers, crystal.positions)) < 16
        lone = bulk("Cu")  # twelve neighbours, all of them its own images
        assert len(bonds(lone.numbers, lone.positions, np.array(lone.cell), lone.pbc)) == 0

    def test_particles_that_are_no_elements_have_none(self):
        with pytest.raises(ValueError, match="type 0 is not an element"):
            bonds(np.array([0, 1]), np.zeros((2, 3)))


class TestSmilesFromFrame:
    def test_what_is_no_molecule_has_none(self):
        crystal = bulk("NaCl", "rocksalt", 5.6)
        periodic = Frame(
            crystal.numbers.astype(np.int64), crystal.positions, np.array(crystal.cell), crystal.pbc
        )
        assert smiles_from_frame(periodic) is None
        particles = Frame(np.zeros(3, dtype=np.int64), np.arange(9.0).reshape(3, 3))
        assert smiles_from_frame(particles) is None

    def test_the_charge_decides(self):
        acetate = frame_from_smiles("CC(=O)[O-]")
        assert smiles_from_frame(acetate) == "CC(=O)[O-]"
        assert smiles_from_frame(acetate.with_(total_charge=0.0)) != "CC(=O)[O-]"


class TestScaffold:
    def test_relatives_share_one_and_strangers_do_not(self):
        assert scaffold("Cc1ccccc1CN") == scaffold("Oc1ccccc1") == "c1ccccc1"
        assert scaffold("C1CCNCC1") != scaffold("c1ccccc1")

    def test_linkers_belong_to_it_and_chains_do_not(self):
        assert scaffold("CCc1ccc(cc1)COc1ccncc1") == "c1ccc(COc2ccncc2)cc1"
        assert scaffold("CCCCO") == ""

    def test_nonsense_has_none(self):
        with pytest.raises(ValueError, match="cannot be read"):
            scaffold("nonsense")


def test_the_module_stays_free_of_torch():
    code = "import sys, sciwm.core.molecules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
