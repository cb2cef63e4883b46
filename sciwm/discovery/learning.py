"""Worlds that learn from the reference runs of their own campaign.

After a round every member of the ensemble is trained on, from the weights it has, on the frames that
reference runs left behind and on the data it was trained on before. The new members take over together,
and only if each still passes the checks of `sciwm check` and is no worse on frames that were kept apart.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from sciwm.data.collection import Collection
from sciwm.data.modules import FrameData
from sciwm.discovery.ledger import Campaign
from sciwm.discovery.outcomes.outcome import Outcome
from sciwm.discovery.plan import Learning
from sciwm.discovery.predictors.imagined import ImaginedOutcomes
from sciwm.evaluation.evaluate import evaluate
from sciwm.evaluation.licence import check_model
from sciwm.models import archive
from sciwm.models.outcome_model import OutcomeModel
from sciwm.training.fit import fit
from sciwm.training.outcome_task import OutcomeTask

TOLERANCE = 1.02
"""An error on kept frames that grows by less is the noise of a short training."""

_PREFIX = "worlds-"

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
        self._recipes = recipes
        self._folder = folder
        self._seed = seed
        promoted = [
            one.version
            for one in campaign.models()
            if one.promoted and one.version.startswith(_PREFIX)
        ]
        if promoted:
            self.models = self._files(int(promoted[-1].removeprefix(_PREFIX)))
            world.replace_with(ImaginedOutcomes.load(self.models, recipes, seed))

    def learn(self, round: int) -> None:
        """Trains, examines, and promotes or refuses; a training that was interrupted goes on."""
        done = {one.version for one in self.campaign.models()}
        version = f"{_PREFIX}{round}"
        if (round + 1) % self.learning.every or version in done:
            return
        fresh = [path for path, _ in self.campaign.frames().values() if Path(path).is_file()]
        if not fresh:
            return
        errors: dict[str, float] = {}
        reasons = []
        for member, (old, new) in enumerate(zip(self.models, self._files(round), strict=True)):
            if not new.is_file():
                self._train(old, new, fresh, member)
            found, reason = self._examine(old, new)
            errors |= {f"{name} of member {member}": value for name, value in found.items()}
            reasons += [f"member {member}: {reason}"] if reason else []
        parent = self.world.version
        if not reasons:
            self.models = self._files(round)
            self.world.replace_with(ImaginedOutcomes.load(self.models, self._recipes, self._seed))
        note = "; ".join(reasons) or "passes its checks, and is no worse on kept frames"
        self.campaign.model(version, parent, len(fresh), not reasons, note, errors)

    def _train(self, old: Path, new: Path, fresh: Sequence[str], member: int) -> None:
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
        data = FrameData([*self.learning.replay, *fresh], 0.05, properties=list(model.properties))
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

    def _examine(self, old: Path, new: Path) -> tuple[dict[str, float], str]:
        """Errors on kept frames, and why the new model must not be used; empty if it may."""
        kept = Collection(self.learning.kept)
        before = {r.name: r.errors.rmse for r in evaluate(archive.load(old).model, kept).rows}
        model = archive.load(new).model
        after = {r.name: r.errors.rmse for r in evaluate(model, kept).rows}
        for name in ("energy", "force"):
            if name in after and after[name] > TOLERANCE * before[name]:
                return after, (
                    f"its {name} error on kept frames grew from {before[name]:.4g} to {after[name]:.4g}"
                )
        licence = check_model(model, kept)
        if licence.verdict == "fail":
            failed = [check.name for check in licence.checks if check.status == "fail"]
            return after, f"fails the checks {', '.join(failed)}"
        return after, ""

    def _files(self, round: int) -> list[Path]:
        return [
            self._folder / f"round{round}-member{k}" / "model.pt" for k in range(len(self.models))
        ]
