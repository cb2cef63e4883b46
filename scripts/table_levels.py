"""Vertical ionisation energies or electron affinities of every molecule of a table, by GFN2-xTB.

One MMFF94s conformer, two single points (neutral, and with one electron fewer or more) in an implicit
solvent: a cheap physical feature for `bench_redox.py` and `bench_quinones.py`, 0.02 to 0.5 s a molecule.
Nothing of the table but its SMILES is read. A table that is there already is continued.

    python scripts/table_levels.py ../shared/data/redox_cobol/Oxidation-HBE-b3lyp-results-clean.csv \\
        scripts/results/redox_gfn2.csv --smiles canonSMILES --solvent acetonitrile
    python scripts/table_levels.py ../shared/data/quinone_pool/quinones.csv \\
        scripts/results/quinones_gfn2.csv --charge=-1 --solvent water
"""

import csv
import time
from pathlib import Path

from jsonargparse import auto_cli

from sciwm.core.molecules import frame_from_smiles
from sciwm.core.progress import Bar
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.simulator import SimulatorError

COLUMNS = ["smiles", "level_eV", "gap_eV", "gap_charged_eV", "hole_atoms", "seconds"]


def main(table: str, out: str, smiles: str = "smiles", charge: int = 1, solvent: str = "") -> None:
    """Writes the CSV: the level is E(charged) - E(neutral), so minus an electron affinity for -1.

    Args:
        table: CSV with a column of SMILES.
        out: CSV to write or continue; rows of failed molecules hold no numbers.
        smiles: Name of the column.
        charge: Of the charged state.
        solvent: Of the ALPB model; vacuum where empty.
    """
    with open(table, newline="") as stream:
        wanted = [row[smiles] for row in csv.DictReader(stream)]
    target = Path(out)
    done = set()
    if target.is_file():
        with target.open(newline="") as stream:
            done = {row["smiles"] for row in csv.DictReader(stream)}
    reference = GFN2(solvent=solvent or None)
    with target.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if not done:
            writer.writerow(COLUMNS)
        for one in Bar([name for name in wanted if name not in done], unit="molecule"):
            start = time.perf_counter()
            try:
                frame = frame_from_smiles(one)
                charged = frame.with_(total_charge=frame.total_charge + charge)
                neutral, ion = reference.properties([frame, charged])
            except ValueError as error:
                neutral = ion = SimulatorError(str(error))
            failures = [str(a) for a in (neutral, ion) if isinstance(a, SimulatorError)]
            seconds = f"{time.perf_counter() - start:.4f}"
            if failures:
                Bar.write(f"{one}: {failures[0]}")
                writer.writerow([one, "", "", "", "", seconds])
                continue
            # Over how many atoms the added charge spreads: inverse participation ratio.
            change = (ion.charges - neutral.charges) * charge
            atoms = change.sum() ** 2 / (change**2).sum()
            values = [ion.energy - neutral.energy, neutral.gap, ion.gap, atoms]
            writer.writerow([one, *(f"{value:.6f}" for value in values), seconds])
            stream.flush()
    reference.close()


if __name__ == "__main__":
    auto_cli(main)
