"""Worlds that learn from the reference runs of their own campaign.

After a round every member of the ensemble is trained on, from the weights it has, on the frames that
reference runs left behind and on the data it was trained on before. The new members take over together,
and only if each still passes the checks of `sciwm check` and is no worse on frames that were kept apart than
the member that the campaign began with. Some molecules are never taught: they are what intervals rest on.
"""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.properties import PROPERTIES
from sciwm.core.state import State
from sciwm.data.collection import Collection, geometry_hash
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.data.modules import FrameData
from sciwm.discovery.experiment.ledger import Campaign
from sciwm.discovery.plan import Learning
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.discovery.problem.outcomes.outcome import Outcome
from sciwm.discovery.surrogate.predictors.imagined import ImaginedOutcomes, version_of
from sciwm.evaluation.evaluate import evaluate
from sciwm.evaluation.model_check import check_model
from sciwm.models import archive
from sciwm.models.dynamics.potential import Potential
from sciwm.models.outcome_model import OutcomeModel
from sciwm.training.fit import fit
from sciwm.training.outcome_task import OutcomeTask

TOLERANCE = 1.02
"""An error on kept frames that grows by less is the noise of a short training."""

VALIDATE_EVERY = 100
"""Steps; trainings are short."""


class WorldLearner:
    """Trains the worlds of a campaign between its rounds.

    Args:
        learning: How.
        campaign: Whose reference runs are learned from, and which records every new version.
        world: The ensemble, which is given new members in place.
        models: Model files of its members.
        recipes: Its outcomes.
        folder: For the new models.
        seed: Of batches.
    """

    def __init__(
        self,
        learning: Learning,
        campaign: Campaign,
        world: ImaginedOutcomes,
        models: Sequence[Path],
        recipes: Sequence[Outcome],
        folder: Path,
        seed: int = 0,
    ):
        for path in models:
            if not isinstance(archive.load(path).model, OutcomeModel):
                raise ValueError(
                    f"{path} has no heads, and only outcome models learn during a campaign; leave "
                    "`learning` out, or train one with sciwm.training.OutcomeTask"
                )
        self.learning = learning
        self.campaign = campaign
        self.world = world
        self.models = list(models)
        self.taught: frozenset[str] = frozenset()
        self._first = list(models)
        self._recipes = recipes
        self._folder = folder
        self._seed = seed
        promoted = [one.version for one in campaign.models() if one.promoted]
        for round in range(campaign.rounds() - 1, -1, -1):
            files = self._files(round)
            if all(file.is_file() for file in files) and version_of(files) in promoted:
                self._promote(files, self._lessons(round)[0])
                break

    def learn(self, round: int) -> None:
        """Trains, examines, and promotes or refuses; a training that was interrupted goes on."""
        if (round + 1) % self.learning.every:
            return
        smiles, fresh = self._lessons(round)
        if not fresh:
            return
        new = self._files(round)
        if not all(file.is_file() for file in new):
            lesson = self._written(round, fresh)
            for member, (old, target) in enumerate(zip(self.models, new, strict=True)):
                if not target.is_file():
                    self._train(old, target, lesson, member)
        if any(one.version == version_of(new) for one in self.campaign.models()):
            return
        errors: dict[str, float] = {}
        reasons = []
        for member, (first, target) in enumerate(zip(self._first, new, strict=True)):
            found, reason = self._examine(first, target)
            errors |= {f"{name} of member {member}": value for name, value in found.items()}
            reasons += [f"member {member}: {reason}"] if reason else []
        parent = self.world.version
        if not reasons:
            self._promote(new, smiles)
        note = "; ".join(reasons) or "passes its checks, and is no worse on kept frames"
        self.campaign.model(version_of(new), parent, len(smiles), not reasons, note, errors)

    def _lessons(self, round: int) -> tuple[frozenset[str], list[str]]:
        """Molecules that are taught, and the files of their frames.

        Controls are never taught, and neither is a quarter of the others, so that intervals and
        corrections have molecules that are new to the worlds.
        """
        told = {
            one.candidate.smiles
            for one in self.campaign.hypotheses()
            if one.decision == "chosen" and one.round <= round and not _held_back(one)
        }
        files = {s: path for s, (path, _) in self.campaign.frames().items() if s in told}
        found = {s: path for s, path in files.items() if Path(path).is_file()}
        return frozenset(found), list(found.values())

    def _written(self, round: int, files: Sequence[str]) -> Path:
        """One file of all their frames, each geometry once."""
        target = self._folder / f"round{round}.h5md"
        target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        seen: set[bytes] = set()
        with H5MDWriter(target) as writer:
            for n, path in enumerate(files):
                with H5MDFile(path) as file:
                    for trajectory in file.trajectories:
                        for k in range(trajectory.n_frames):
                            frame = trajectory.frame(k)
                            digest = geometry_hash(frame)
                            if digest not in seen:
                                seen.add(digest)
                                writer.append(frame, group=f"molecule{n}-{trajectory.name}")
        return target

    def _train(self, old: Path, new: Path, lesson: Path, member: int) -> None:
        model = archive.load(old).model
        assert isinstance(model, OutcomeModel)
        blank = archive.build(archive.describe(model))
        assert isinstance(blank, OutcomeModel)
        task = OutcomeTask(
            blank,
            start=str(old),
            learning_rate=1e-3,
            warmup=20,
            cpu_seconds=self.learning.seconds,
        )
        data = FrameData(
            [*self.learning.replay, str(lesson)],
            0.05,
            properties=list(model.properties),
            bootstrap=True,
        )
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        fit(
            data,
            task,
            new.parent.name,
            seed=self._seed + member,
            validate_every=VALIDATE_EVERY,
            trainer={"enable_progress_bar": False},
            folder=str(new.parent.parent),
        )
        shutil.rmtree(new.parent / "checkpoints", ignore_errors=True)

    def _examine(self, first: Path, new: Path) -> tuple[dict[str, float], str]:
        """Errors on kept frames, and why the new model must not be used; empty if it may.

        The measure is the model that the campaign began with: what each promotion may lose does
        not add up.
        """
        kept = Collection(self.learning.kept)
        before, model = _errors(archive.load(first).potential, kept), archive.load(new).potential
        after = _errors(model, kept)
        for name, error in after.items():
            if error > TOLERANCE * before[name]:
                return after, (
                    f"its error of {name} on kept frames grew from {before[name]:.4g} to {error:.4g}"
                )
        licence = check_model(model, kept)
        if licence.verdict == "fail":
            failed = [check.name for check in licence.checks if check.status == "fail"]
            return after, f"fails the checks {', '.join(failed)}"
        return after, ""

    def _promote(self, files: list[Path], taught: frozenset[str]) -> None:
        self.models = files
        self.taught = taught
        self.world.replace_with(ImaginedOutcomes.load(files, self._recipes, self._seed))
        self.world.taught = taught

    def _files(self, round: int) -> list[Path]:
        return [
            self._folder / f"round{round}-member{k}" / "model.pt" for k in range(len(self.models))
        ]


def _held_back(hypothesis: Hypothesis) -> bool:
    return hashlib.sha256(hypothesis.candidate.smiles.encode()).digest()[0] % 4 == 0


def _errors(model: Potential, kept: Collection) -> dict[str, float]:
    """Root mean square errors of energy, forces and every property, by name with unit."""
    rows = {f"{r.name} ({r.unit})": r.errors.rmse for r in evaluate(model, kept).rows}
    assert isinstance(model, OutcomeModel)
    squares: dict[str, list[float]] = {}
    dtype = next(model.parameters()).dtype
    for entry in kept.frames:
        frame = kept.frame(entry)
        state = attach_pairs(State.from_frame(frame, dtype), model.cutoff)
        with torch.no_grad():
            found = model.observe(state, NeighbourTable.from_pairs(state))
        for name, value in found.items():
            if name in frame.properties:
                off = value.double().numpy().ravel() - np.ravel(frame.properties[name])
                squares.setdefault(name, []).append(float(np.mean(off**2)))
    return rows | {
        f"{name} ({PROPERTIES[name].unit})": float(np.sqrt(np.mean(one)))
        for name, one in squares.items()
    }
