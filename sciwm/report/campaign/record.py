"""What the page of a discovery campaign is made from, wherever it was kept."""

import re
from dataclasses import dataclass, field

from sciwm.core.frame import Frame
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.discovery.problem.scoring import Merit


@dataclass(frozen=True)
class ModelCard:
    """One version of the model.

    Attributes:
        version: As hypotheses name it.
        promoted: Whether it was used from then on.
        errors: By outcome, in its unit, on what the decision was made with.
        trained_on: Molecules it learned from.
        why: The reason it was promoted or refused.
    """

    version: str
    promoted: bool
    errors: dict[str, float] = field(default_factory=dict)
    trained_on: int = 0
    why: str = ""


@dataclass(frozen=True, eq=False)
class CampaignRecord:
    """A campaign, finished or not.

    Attributes:
        name: Of the campaign.
        objective: As the user wrote it.
        goals: One text for each number of a score.
        units: Of every outcome that is predicted and measured, by name.
        merit: What outcomes are worth, as `merit_of` gives it.
        hypotheses: Everything proposed, in order; those that break a requirement without a score, as
            `met` gives them.
        budget_calls: Runs of the reference, at most.
        budget_seconds: Seconds of the reference, at most.
        baselines: Other searches on the same task: (calls, best score so far) by name.
        model_cost: Seconds the model takes for one outcome of one molecule.
        reference_cost: Seconds the reference takes for the same.
        geometries: Structures by SMILES.
        models: In order of training.
    """

    name: str
    objective: str
    goals: list[str]
    units: dict[str, str]
    merit: Merit
    hypotheses: list[Hypothesis]
    budget_calls: int
    budget_seconds: float
    baselines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    model_cost: dict[str, float] = field(default_factory=dict)
    reference_cost: dict[str, float] = field(default_factory=dict)
    geometries: dict[str, Frame] = field(default_factory=dict)
    models: list[ModelCard] = field(default_factory=list)

    @property
    def outcomes(self) -> list[str]:
        """Their names, those of the first goal first."""
        words = " ".join(self.goals)
        found = {name: re.search(rf"\b{re.escape(name)}\b", words) for name in self.units}
        place = {name: match.start() if match else len(words) for name, match in found.items()}
        return sorted(self.units, key=lambda name: place[name])
