"""What a proposer may still give: sound, small enough, and new to it."""

from collections.abc import Iterable

from rdkit import Chem, rdBase

from sciwm.core.molecules import parsed


def canonical(smiles: str) -> str:
    """The canonical SMILES of one sound molecule, without hydrogens that need no mention.

    Raises:
        ValueError: If it names none; see `parsed`.
    """
    return Chem.MolToSmiles(_bare(smiles))


def _bare(smiles: str) -> Chem.Mol:
    molecule = parsed(smiles)
    if "[H" not in smiles:
        return molecule
    with rdBase.BlockLogs():
        return Chem.RemoveHs(molecule)


class Novelty:
    """Lets every molecule through once.

    Args:
        max_heavy: Larger molecules never pass.
    """

    def __init__(self, max_heavy: int):
        if max_heavy < 1:
            raise ValueError(f"{max_heavy=} must be at least 1 heavy atom")
        self.max_heavy = max_heavy
        self._seen: set[str] = set()

    def __contains__(self, smiles: str) -> bool:
        return smiles in self._seen

    def remember(self, smiles: Iterable[str]) -> None:
        """Canonical SMILES that must not be given any more."""
        self._seen.update(smiles)

    def admit(self, smiles: str | None) -> str | None:
        """The canonical form where the molecule may be given, which is then its only time."""
        if smiles is None:
            return None
        try:
            molecule = _bare(smiles)
        except (ValueError, RuntimeError):
            return None
        if molecule.GetNumHeavyAtoms() > self.max_heavy:
            return None
        text = Chem.MolToSmiles(molecule)
        if text in self._seen:
            return None
        self._seen.add(text)
        return text
