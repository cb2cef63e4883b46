"""Many cases: drawn from a seed, run a few at a time, counted, and kept where they fail."""

import gc
import importlib
import json
import pkgutil
import shutil
import sys
import time
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np

import sciwm
from fuzzing import samples
from fuzzing.families import FAMILIES, SCORE, SLOW, SOUND, Family
from fuzzing.jail import FAILURES, IMPLAUSIBLE, REFUSED, Inmate, Outcome
from sciwm.cli import main
from sciwm.core.plausibility import frame_oddity
from sciwm.data.h5md import H5MDFile
from sciwm.discovery.problem.descriptors import DESCRIPTORS
from sciwm.discovery.problem.objective.objective import Objective

__all__ = ["FAILURES", "Session", "replayed"]

WORDS = "words.json"


class Session:
    """Runs cases.

    Args:
        scratch: An empty folder to work in.
        kept: Folder for the input of failures.
        seed: With the number of a case, all that it is drawn from.
        only: Names of families; all where absent.

    Attributes:
        samples: What can be imported.
        failures: Each distinct failure with a file to replay it and how often it was seen.
    """

    def __init__(self, scratch: Path, kept: Path, seed: int, only: list[str] | None = None):
        _load_everything()
        self._scratch, self._kept, self._seed = scratch.resolve(), kept, seed
        self._families = {name: FAMILIES[name] for name in only or FAMILIES}
        self._sound = self._scratch / "samples"
        self._sound.mkdir()
        # In a process of its own too: one that has differentiated cannot be forked.
        made = _waited(Inmate(lambda: samples.make(self._sound) or 0, self._sound, 200))
        if made.verdict != "ok":
            raise SystemExit(f"the samples could not be made: {made.said}")
        self.samples = samples.sources(self._sound)
        self.failures: dict[str, tuple[Path, int]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._running: dict[int, tuple[str, Inmate]] = {}

    def begin(self, number: int, jobs: int) -> None:
        """Starts a case, once fewer than `jobs` run."""
        while len(self._running) >= jobs:
            self._look()
        folder = self._scratch / str(number)
        name, words = self._draw(number, folder)
        self._running[number] = name, Inmate(lambda: execute(words), folder)

    def finish(self) -> None:
        """Waits for what still runs."""
        while self._running:
            self._look()

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each verdict, the cases of each family."""
        found: dict[str, dict[str, int]] = {}
        for (verdict, family), count in sorted(self._counts.items()):
            found.setdefault(verdict, {})[family] = count
        return found

    def sound(self) -> dict[str, Outcome]:
        """What becomes of what is quick and undamaged, by name: a fuzz of what never works says nothing."""
        found = {}
        for source in self.samples:
            if source.sound:
                folder = self._scratch / "sound"
                shutil.copytree(source.folder, folder)
                words = ["import", source.name, "--to", "new.h5md", *source.words]
                found[source.folder.name] = self._outcome(words, folder)
        for command, words in SOUND.items():
            if command in SLOW:
                continue
            folder = self._scratch / "sound"
            shutil.copytree(self._sound, folder)
            shutil.copytree(self._sound / "sources" / "extxyz", folder, dirs_exist_ok=True)
            found[command] = self._outcome(list(words), folder)
        return found

    def _outcome(self, words: list[str], folder: Path) -> Outcome:
        outcome = _waited(Inmate(lambda: execute(words), folder))
        shutil.rmtree(folder)
        return outcome

    def _draw(self, number: int, folder: Path) -> tuple[str, list[str]]:
        """The family of a case and its words; its files are then in the folder."""
        rng = Random(f"{self._seed} {number}")
        names = list(self._families)
        name = rng.choices(names, [weight for _, weight in self._families.values()])[0]
        family: Family = self._families[name][0]
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return name, family(rng, self._sound, folder)

    def _look(self) -> None:
        """Takes down what has ended, or waits a moment."""
        ended = False
        for number, (name, inmate) in list(self._running.items()):
            outcome = inmate.outcome()
            if outcome is not None:
                ended = True
                del self._running[number]
                # What a case started may live, and write, a moment longer.
                shutil.rmtree(self._scratch / str(number), ignore_errors=True)
                self._counts[outcome.verdict, name] += 1
                if outcome.verdict in FAILURES:
                    self._keep(number, name, outcome)
        if not ended:
            time.sleep(0.002)

    def _keep(self, number: int, name: str, outcome: Outcome) -> None:
        failure = f"{name}: {outcome.verdict}: {outcome.where}"
        if failure in self.failures:
            file, count = self.failures[failure]
            self.failures[failure] = file, count + 1
            return
        folder = self._scratch / f"again{number}"
        _, words = self._draw(number, folder)
        self._kept.mkdir(parents=True, exist_ok=True)
        file = self._kept / f"{self._seed}-{number}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(WORDS, json.dumps(words))
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        shutil.rmtree(folder)
        self.failures[failure] = file, 1
        print(f"{failure}\n    {' '.join(words)[:200]}\n    --replay {file}", flush=True)


def replayed(file: Path, scratch: Path) -> Outcome:
    """What becomes of a case that was kept."""
    _load_everything()
    folder = scratch.resolve() / "case"
    with zipfile.ZipFile(file) as archive:
        words = json.loads(archive.read(WORDS))
        archive.extractall(folder)
    print(" ".join(words), flush=True)
    return _waited(Inmate(lambda: execute(words), folder))


def execute(words: list[str]) -> int:
    """Runs a command, and looks at the numbers of what it wrote.

    Raises:
        SystemExit: As the command's parser does.
    """
    if words[0] == SCORE:
        return _score(words[1])
    status = main(words)
    for name in ("new.h5md", "out.h5md"):
        if status == 0 and Path(name).is_file():
            fault = implausible(Path(name))
            if fault:
                print(fault, file=sys.stderr)
                return IMPLAUSIBLE
    return status


def _score(text: str) -> int:
    """Reads an objective, and evaluates it at ordinary and at impossible values."""
    try:
        found = Objective.parse(text, {name: one.unit for name, one in DESCRIPTORS.items()})
    except ValueError as error:
        print(f"sciwm score: {error}", file=sys.stderr)
        return REFUSED
    values = np.array([[0.0, 1.0, -1.0, 1e300, np.nan, np.inf]])
    found.evaluate(dict.fromkeys(found.outcomes, values))
    found.feasible(dict.fromkeys(found.outcomes, values))
    return 0


def implausible(file: Path) -> str:
    """The first number in an H5MD file that cannot be; empty if all can."""
    with H5MDFile(file) as content:
        for trajectory in content.trajectories:
            for k in range(trajectory.n_frames):
                found = frame_oddity(trajectory.frame(k), content.units)
                if found is not None:
                    return found.sentence
    return ""


def _waited(inmate: Inmate) -> Outcome:
    while (outcome := inmate.outcome()) is None:
        time.sleep(0.002)
    return outcome


def _load_everything() -> None:
    """Imports what any command may need, so that no case waits for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.walk_packages(sciwm.__path__, "sciwm."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        for name in ("lightning.pytorch", "MDAnalysis", "torch._dynamo", "tensorboard", "pebble"):
            importlib.import_module(name)
    gc.freeze()  # what all cases share need not be looked through, and so copied, in each
