"""A million molecules screened with two kills on the way: rows lost or doubled, memory, rows per second.

The library is put together from real molecules (AqSolDB, ESOL, the homobenzylic ethers of Doan et al.
2020): small ones become substituents of larger ones. One line in a hundred is broken, in nine ways.
Outcomes are predicted from 300 measured oxidation potentials. Twice, at 10 % and at 20 % of the lines,
the screening is killed (SIGKILL; first the main process alone, then all) and started again. About half
an hour on two cores.

    python scripts/bench_screen.py [--lines 1000000] [--workers 2] [--json_file FILE]
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from rdkit import Chem

from sciwm.core.progress import Bar
from sciwm.discovery.problem.gates import ChargeAndSpin, Elements, Gates, Size

ELEMENTS = ["H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"]
SOURCES = [
    ("aqsoldb/data_curated.csv", "SMILES"),
    ("esol/delaney-processed.csv", "smiles"),
    ("redox_cobol/Oxidation-HBE-b3lyp-results-clean.csv", "canonSMILES"),
]
MEASURED = ("redox_cobol/Oxidation-HBE-b3lyp-results-clean.csv", "canonSMILES", "Potential")

BROKEN = {
    "empty": [b"", b"   "],
    "zero byte": [b"CC\0O broken", b"\0\0\0\0"],
    "no UTF-8": [b"CC\xff\xfeO broken", b"CCO na\xefve"],
    "unparsable": [b"C1CC( broken", b"benzene", b"c1cccc1", b"CN(C)(C)(C)C", b"InChI=1S/CH4/h1H4"],
    "huge": [b"C" * 5000, b"C(" * 3000, b"CCOCCN" * 20, b"C" * (1 << 21)],
    "salt": [b"CC(=O)[O-].[Na+]", b"[Na+].[Cl-] salt", b"CCO.CCN"],
    "radical": [b"C[CH2]", b"[O]c1ccccc1", b"CN([O])C", b"[CH3+]"],
    "element": [b"C[Hg]C", b"[Pt]", b"[Xe]", b"CC[Se]C"],
    "no atom": [b"CC*", b"[*]c1ccccc1", b"C[#0]"],
}
EXPECTED = {
    "empty": "reading",
    "zero byte": "reading",
    "no UTF-8": "reading",
    "unparsable": "parsing",
    "huge": "gate: size",  # or, beyond a mebibyte, reading
    "salt": "parsing",
    "radical": "gate: charge and spin",
    "element": "gate: elements",
    "no atom": "parsing",
}


def main(
    lines: int = 1_000_000,
    workers: int = 2,
    data: str = "../shared/data",
    folder: str | None = None,
    json_file: str | None = None,
) -> None:
    """Prints what became of the rows, and writes it.

    Args:
        lines: Of the library.
        workers: Processes.
        data: Folder of the real molecules.
        folder: Where library and table are kept; a temporary one where absent.
        json_file: Where to write the figures as JSON too.
    """
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        planted = write_library(place / "library.smi", lines, Path(data))
        print(f"{lines:,} lines, {len(planted):,} of them broken, written in "
              f"{time.perf_counter() - started:.0f} s")  # fmt: skip
        write_measured(place / "measured.csv", Path(data))
        legs = [
            leg(place, workers, share and int(share * lines), everybody)
            for share, everybody in ((0.1, False), (0.2, True), (None, False))
        ]
        figures = checked(place / "table.csv", lines, planted) | costs(legs, lines)
    print()
    for name, figure in figures.items():
        print(name, f"{figure['value']:g}", figure["unit"])
    if json_file:
        Path(json_file).write_text(json.dumps(figures, indent=1) + "\n")


def write_library(path: Path, lines: int, data: Path) -> dict[int, str]:
    """The kind of each broken line, by its number."""
    rng = np.random.default_rng(0)
    cores, substituents = fragments(data)
    planted = {}
    kinds = list(BROKEN)
    with path.open("wb") as file:
        for number in Bar(range(1, lines + 1), desc="library", unit_scale=True):
            if rng.random() < 0.01:
                kind = kinds[len(planted) % len(kinds)]
                # The longest, of two mebibytes, once in a while.
                last = -1 if kind == "huge" and len(planted) % 900 else None
                choices = BROKEN[kind][:last]
                planted[number] = kind
                file.write(choices[rng.integers(len(choices))] + b"\n")
                continue
            core, substituent = cores[rng.integers(len(cores))], None
            if rng.random() < 0.9:
                substituent = substituents[rng.integers(len(substituents))]
            file.write(f"{joined(core, substituent)} m{number}\n".encode())
    return planted


def fragments(data: Path) -> tuple[list[str], list[str]]:
    """SMILES that begin at a carbon with a hydrogen: of up to 30 heavy atoms, and of up to 10."""
    gates = Gates([Size(250, 30), ChargeAndSpin(), Elements(ELEMENTS)])
    cores, substituents = [], []
    for name, column in SOURCES:
        with (data / name).open(newline="") as stream:
            for row in csv.DictReader(stream):
                molecule, _ = gates.judge(row[column].strip())
                if molecule is None:
                    continue
                for atom in molecule.GetAtoms():
                    text = Chem.MolToSmiles(molecule, rootedAtAtom=atom.GetIdx())
                    # The first atom, unless in brackets, takes a neighbour for one of its hydrogens.
                    if atom.GetSymbol() == "C" and atom.GetTotalNumHs() and text[0] in "Cc":
                        cores.append(text)
                        if molecule.GetNumHeavyAtoms() <= 10 and "%" not in text:
                            substituents.append(text)
    return cores, substituents


def joined(core: str, substituent: str | None) -> str:
    """Both in one molecule, with a bond between their first atoms."""
    if substituent is None:
        return core
    # Rings of the substituent are counted from ten, and none of the core's is.
    apart = re.split(r"(\[[^]]*\])", substituent)
    renamed = "".join(re.sub(r"(\d)", r"%9\1", t) if t[:1] != "[" else t for t in apart)
    first = re.match(r"[Cc](%\d\d|[-=#:/\\]?\d)*", core)
    assert first is not None
    return f"{first[0]}({renamed}){core[first.end() :]}"


def write_measured(path: Path, data: Path) -> None:
    name, smiles, value = MEASURED
    with (data / name).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = np.random.default_rng(1).permutation(len(rows))[:300]
    with path.open("w") as file:
        file.write("smiles,potential\n")
        file.writelines(f"{rows[k][smiles]},{rows[k][value]}\n" for k in chosen)


def leg(place: Path, workers: int, until: int | None, everybody: bool) -> dict[str, object]:
    """Screens until a line is done, and kills it there: the main process alone, or its workers too."""
    out = place / "table.csv"
    command = [
        *(sys.executable, "-m", "sciwm", "screen", str(place / "library.smi")),
        *("--objective", "minimize abs(potential - 1.55 V); require sa_score < 4"),
        *("--table", str(place / "measured.csv"), "--units", '{"potential": "V"}'),
        *("--elements", json.dumps(ELEMENTS), "--workers", str(workers), "--out", str(out)),
    ]
    started = time.perf_counter()
    samples: list[
        tuple[int, int, int]
    ] = []  # rows, bytes of the main process, of its largest worker
    seconds: dict[int, float] = {}
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    first = rows_done(out)
    below: list[int] = []
    while process.poll() is None:
        rows = rows_done(out)
        if until is not None and rows >= until:
            for pid in [process.pid, *(below if everybody else [])]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
            break
        below = list(descendants(process.pid))
        sizes = {pid: resident(pid) for pid in (process.pid, *below)}
        seconds |= {pid: processor(pid) for pid in sizes}
        samples.append((rows, sizes[process.pid], max((sizes[p] for p in below), default=0)))
        time.sleep(0.25)
    assert until is not None or process.returncode == 0, "the screening failed"
    end = time.perf_counter() + 60
    while (left := [pid for pid in below if resident(pid)]) and time.perf_counter() < end:
        time.sleep(0.25)
    return {
        "first": first,
        "samples": samples,
        "processor": sum(seconds.values()),
        "wall": time.perf_counter() - started,
        "left": len(left),
    }


def rows_done(out: Path) -> int:
    path = out.with_name(out.name + ".progress.json")
    return json.loads(path.read_text())["rows"] if path.is_file() else 0


def descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for task in Path(f"/proc/{pid}/task").iterdir():
            if task.name != str(pid):
                children += (task / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in map(int, children):
        # Not the process that only watches over semaphores.
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
            yield child
            yield from descendants(child)


def resident(pid: int) -> int:
    """Bytes; zero if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def processor(pid: int) -> float:
    """Seconds."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def checked(table: Path, lines: int, planted: dict[int, str]) -> dict[str, dict[str, object]]:
    """Each line of the library once and in order, with a problem just where one was planted."""
    seen: Counter[int] = Counter()
    before = disorder = wrong = flagged = 0
    missed: Counter[str] = Counter()
    with table.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            line = int(row["line"])
            seen[line] += 1
            disorder += line < before
            before = line
            flagged += bool(row["flag"])
            if line in planted:
                # Anything beyond a mebibyte is not even read.
                ways = {EXPECTED[planted[line]]} | (
                    {"reading"} if planted[line] == "huge" else set()
                )
                missed[planted[line]] += not any(row["problem"].startswith(w) for w in ways)
            elif row["problem"] or not row["score"]:
                wrong += 1
                print(f"line {line}: {row['smiles']}: {row['problem'] or 'no score'}")
    lost = lines - len(seen)
    doubled = sum(seen.values()) - len(seen)
    print(f"planted problems not found: {dict(missed)}")
    found = {
        "rows_completed": len(seen),
        "rows_lost_or_doubled": lost + doubled,
        "rows_out_of_order": disorder,
        "broken_rows_planted": len(planted),
        "broken_rows_told": len(planted) - sum(missed.values()),
        "sound_rows_refused": wrong,
        "rows_flagged": flagged,
    }
    return {name: {"value": value, "unit": "rows"} for name, value in found.items()}


def costs(legs: list[dict], lines: int) -> dict[str, dict[str, object]]:
    """Time of all legs; memory of the last, in which most rows were judged."""
    last = legs[-1]
    span = lines - last["first"]
    early = [s for s in last["samples"] if s[0] < last["first"] + 0.2 * span]
    late = [s for s in last["samples"] if last["first"] + 0.8 * span <= s[0] < lines]
    wall = sum(one["wall"] for one in legs)
    busy = sum(one["processor"] for one in legs)
    found = {
        "kills": (len(legs) - 1, ""),
        "workers_left_behind": (sum(one["left"] for one in legs), ""),
        "rows_per_processor_second": (round(lines / busy, 1), "rows/s"),
        "rows_per_second": (round(lines / wall, 1), "rows/s"),
        "seconds": (round(wall, 1), "s"),
    }
    for place, name in ((1, "main_process"), (2, "worker")):
        peaks = [max((s[place] for s in some), default=0) / 2**20 for some in (early, late)]
        found[f"{name}_peak_early"] = (round(peaks[0], 1), "MiB")
        found[f"{name}_peak_late"] = (round(peaks[1], 1), "MiB")
    return {name: {"value": value, "unit": unit} for name, (value, unit) in found.items()}


if __name__ == "__main__":
    auto_cli(main)
