"""Screens a library of molecules: copy this file, change the capitals, run it.

It can be stopped at any moment and run again: it goes on where it was. Each row of the library becomes one
row of the table, in the same order; a row that cannot be used says why.

    python screen_library.py
"""

from pathlib import Path

from sciwm.discovery.screening.judge import Screening
from sciwm.discovery.screening.screening import screen
from sciwm.discovery.screening.table import best

LIBRARY = Path("library.smi")  # or .csv, .tsv, .sdf; may be gzipped
TABLE = Path("screened.csv")
WORKERS = 2

SCREENING = Screening(
    # What you are after. Outcomes of your own table go by the names of its columns; sa_score, logp,
    # tpsa, qed, molecular_weight, heavy_atoms and rings are always there.
    objective="minimize abs(potential - 1.55 V); require sa_score < 4",
    # What you measured: a CSV with a column of SMILES and one for each outcome.
    table="measured.csv",
    units={"potential": "V"},
    # Trained worlds, in which outcomes are imagined instead; the table then calibrates them.
    models=[],
    # What is refused unseen, the cheapest first.
    gates=[
        {"class_path": "sciwm.discovery.problem.gates.Size", "init_args": {"max_heavy": 40}},
        {"class_path": "sciwm.discovery.problem.gates.ChargeAndSpin"},
        {
            "class_path": "sciwm.discovery.problem.gates.Elements",
            "init_args": {"allowed": ["H", "C", "N", "O", "F", "S", "Cl", "Br"]},
        },
        {"class_path": "sciwm.discovery.problem.gates.Alerts", "init_args": {"catalogue": "PAINS"}},
    ],
)

if __name__ == "__main__":  # worker processes read this file too
    tally = screen(SCREENING, LIBRARY, TABLE, WORKERS)
    print(f"{tally.rows:,} rows, {tally.flagged:,} of them unlike what was measured")
    for problem, count in tally.problems.items():
        print(f"{count:>10,} {problem}")
    for row in best(TABLE, 20):
        print(
            row["score"],
            row["smiles"],
            row["potential"],
            row["potential_lower"],
            row["potential_upper"],
        )
