"""What is refused before anything is computed, each refusal with its reason."""

import abc
from collections.abc import Collection, Sequence

from rdkit import Chem, rdBase

from sciwm.core.molecules import parsed
from sciwm.discovery.problem.descriptors import sa_score
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.structural_alerts import AlertCatalogue

LONGEST_SMILES = 4000
"""Characters; a longer text is refused unread."""

MOST_HEAVY_ATOMS = 500
"""Larger molecules are refused before rings and aromaticity are looked for, which can take minutes."""


class Gate(abc.ABC):
    """One condition that a candidate must meet.

    Attributes:
        name: As reports count refusals.
    """

    name: str

    @abc.abstractmethod
    def reason(self, molecule: Chem.Mol) -> str | None:
        """Why a sanitised molecule with implicit hydrogens is refused; None where it may pass."""


class Size(Gate):
    """Refuses molecules too large for the reference.

    Args:
        max_atoms: With hydrogens.
        max_heavy: Without.
    """

    name = "size"

    def __init__(self, max_atoms: int = 100, max_heavy: int = 50):
        if max_atoms < 1 or max_heavy < 1:
            raise ValueError(f"{max_atoms=} and {max_heavy=} must be at least 1")
        self.max_atoms = max_atoms
        self.max_heavy = max_heavy

    def reason(self, molecule: Chem.Mol) -> str | None:
        heavy = molecule.GetNumHeavyAtoms()
        if heavy > self.max_heavy:
            return f"{heavy} heavy atoms, more than {self.max_heavy}"
        atoms = molecule.GetNumAtoms(onlyExplicit=False)
        if atoms > self.max_atoms:
            return f"{atoms} atoms with hydrogens, more than {self.max_atoms}"
        return None


class Elements(Gate):
    """Refuses elements that nobody asked for.

    Args:
        allowed: Symbols; hydrogen is always allowed.

    Raises:
        ValueError: If a symbol names no element.
    """

    name = "elements"

    def __init__(self, allowed: Collection[str]):
        table = Chem.GetPeriodicTable()
        self.allowed = frozenset(allowed) | {"H"}
        symbols = {table.GetElementSymbol(number) for number in range(1, 119)}
        unknown = sorted(self.allowed - symbols)
        if unknown:
            raise ValueError(f"{unknown} are no elements; write symbols such as 'C' and 'Cl'")

    def reason(self, molecule: Chem.Mol) -> str | None:
        others = sorted({atom.GetSymbol() for atom in molecule.GetAtoms()} - self.allowed)
        if others:
            return f"holds {', '.join(others)}; allowed are {', '.join(sorted(self.allowed))}"
        return None


class ChargeAndSpin(Gate):
    """Refuses unwanted net charges, and molecules with unpaired electrons.

    Args:
        charges: Allowed net charges in e; charges that cancel, as in a nitro group, are no charge.
    """

    name = "charge and spin"

    def __init__(self, charges: Collection[int] = (0,)):
        self.charges = frozenset(charges)

    def reason(self, molecule: Chem.Mol) -> str | None:
        charge = Chem.GetFormalCharge(molecule)
        if charge not in self.charges:
            return f"net charge {charge:+d} e; allowed are {sorted(self.charges)}"
        unpaired = electrons = 0
        for atom in molecule.GetAtoms():
            unpaired += atom.GetNumRadicalElectrons()
            electrons += atom.GetAtomicNum() + atom.GetTotalNumHs()
        if unpaired:
            return f"{unpaired} unpaired electrons"
        if (electrons - charge) % 2:
            return f"an odd number of electrons ({electrons - charge})"
        return None


class SyntheticAccessibility(Gate):
    """Refuses what looks hard to make.

    Args:
        limit: Largest score, from 1 (easy) to 10 (Ertl and Schuffenhauer 2009).
    """

    name = "synthetic accessibility"

    def __init__(self, limit: float = 4.5):
        if not 1 <= limit <= 10:
            raise ValueError(f"{limit=} is outside the score's range from 1 to 10")
        self.limit = limit

    def reason(self, molecule: Chem.Mol) -> str | None:
        if molecule.GetNumHeavyAtoms() == 0:
            return None  # the score is made of heavy atoms; hydrogen is easily bought
        score = sa_score(molecule)
        return (
            f"synthetic accessibility {score:.2f}, above {self.limit}"
            if score > self.limit
            else None
        )


class Alerts(Gate):
    """Refuses molecules with a substructure of a published list.

    Args:
        catalogue: PAINS or BRENK.

    Raises:
        ValueError: If there is no such catalogue.
    """

    def __init__(self, catalogue: str = "PAINS"):
        self.name = f"{catalogue} alerts"
        self.catalogue = catalogue
        self._alerts = AlertCatalogue(catalogue)

    def reason(self, molecule: Chem.Mol) -> str | None:
        alert = self._alerts.first(molecule)
        return f"{self.catalogue} alert {alert}" if alert else None


class Gates:
    """All conditions, in the order given; the first refusal counts.

    Args:
        gates: The cheapest first.
    """

    def __init__(self, gates: Sequence[Gate] = ()):
        self.gates = tuple(gates)

    def judge(self, smiles: str) -> tuple[Chem.Mol | None, Failure | None]:
        """The molecule of a SMILES that may pass, or why it may not; never both, never raises."""
        oversized = _oversized(smiles)
        if oversized:
            return None, Failure("gate", f"size: {oversized}")
        try:
            molecule = parsed(smiles)
        except (ValueError, RuntimeError) as error:
            return None, Failure("parsing", str(error))
        for gate in self.gates:
            reason = gate.reason(molecule)
            if reason:
                return None, Failure("gate", f"{gate.name}: {reason}")
        return molecule, None


def _oversized(smiles: str) -> str | None:
    if len(smiles) > LONGEST_SMILES:
        return f"a SMILES of {len(smiles)} characters, more than {LONGEST_SMILES}, is not read"
    # A text has at least as many characters as the molecule has heavy atoms.
    if len(smiles) <= MOST_HEAVY_ATOMS:
        return None
    with rdBase.BlockLogs():
        raw = Chem.MolFromSmiles(smiles, sanitize=False)
    if raw is not None and raw.GetNumHeavyAtoms() > MOST_HEAVY_ATOMS:
        return f"{raw.GetNumHeavyAtoms()} heavy atoms, more than {MOST_HEAVY_ATOMS}"
    return None
