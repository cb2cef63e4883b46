"""Outcomes imagined: the recipes of the reference, run in learned worlds."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sciwm.core.frame import Array, Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value
from sciwm.discovery.surrogate.predictors.predictor import Expectation
from sciwm.evaluation.run import model_file
from sciwm.models import archive
from sciwm.models.domain import UnseenSpeciesError
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.simulator import PropertySimulator, SimulatorError

AT_ONCE = 32
"""Molecules simulated side by side: enough to fill a processor, few enough for its memory."""

REMEMBERED = 100_000
"""Molecules whose outcomes are kept, so that memory does not grow with a library."""


class ImaginedOutcomes:
    """Runs every recipe in every member of an ensemble of learned worlds.

    The mean is that of the members. The spread adds in squares how far members disagree in the
    outcome, after each has relaxed or simulated on its own, and the recipe's sampling error: model
    errors are carried through the simulation rather than estimated at its start.

    Args:
        members: Learned worlds; one alone knows no disagreement, and its spread is sampling's.
        recipes: The outcomes.
        seed: Of conformers, velocities and noise, the same in all members.
        version: Names the ensemble.
    """

    def __init__(
        self,
        members: Sequence[PropertySimulator],
        recipes: Sequence[Outcome],
        seed: int = 0,
        version: str = "",
    ):
        if not members:
            raise ValueError("imagination needs a learned world; give at least one model")
        self._members = list(members)
        self._recipes = list(recipes)
        self._seed = seed
        self._version = version
        self.taught: frozenset[str] = frozenset()
        self._known: dict[str, tuple[Array, Array, str | None]] = {}

    @staticmethod
    def load(
        paths: Sequence[str | Path], recipes: Sequence[Outcome], seed: int = 0
    ) -> "ImaginedOutcomes":
        """From model files or run folders.

        Raises:
            FileNotFoundError: If there is none.
            sciwm.models.archive.ModelFileError: If one cannot be read.
        """
        files = [model_file(path) for path in paths]
        members = [LearnedSimulator(archive.load(file).potential) for file in files]
        return ImaginedOutcomes(members, recipes, seed, version_of(files))

    def require(self, properties: Sequence[str]) -> None:
        """Raises ValueError if a member does not offer one of them."""
        for member in self._members:
            offered = getattr(getattr(member, "model", None), "properties", ())
            missing = [name for name in properties if name not in offered]
            if missing:
                raise ValueError(
                    f"a world offers {', '.join(offered) or 'no properties'}, not {missing[0]!r}; train "
                    "one with a head for it"
                )

    def replace_with(self, other: "ImaginedOutcomes") -> None:
        """Takes over the worlds of another ensemble, and forgets what its own imagined."""
        self._members, self._version = other._members, other._version
        self.taught = other.taught
        self._known = {}

    @property
    def outcomes(self) -> tuple[str, ...]:
        """See `Predictor`."""
        return tuple(recipe.name for recipe in self._recipes)

    @property
    def version(self) -> str:
        """See `Predictor`."""
        return self._version

    def fit(self, smiles: Sequence[str], values: Array) -> None:
        """Nothing: worlds learn from frames, not from outcomes."""

    def predict(self, smiles: Sequence[str]) -> Expectation:
        """See `Predictor`; what was imagined lately is remembered."""
        missing = list(dict.fromkeys(one for one in smiles if one not in self._known))
        for start in range(0, len(missing), AT_ONCE):
            self._imagine(missing[start : start + AT_ONCE])
        known = [self._known[one] for one in smiles]
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        shape = (len(known), len(self._recipes))
        return Expectation(
            np.array([mean for mean, _, _ in known]).reshape(shape),
            np.array([spread for _, spread, _ in known]).reshape(shape),
            [flag for _, _, flag in known],
        )

    def _imagine(self, smiles: Sequence[str]) -> None:
        frames: dict[str, Frame] = {}
        k = len(self._recipes)
        for one in smiles:
            try:
                frames[one] = frame_from_smiles(one, self._seed)
            except ValueError as error:
                self._known[one] = (np.full(k, np.nan), np.full(k, np.nan), f"embedding: {error}")
        if not frames:
            return
        # (members, molecules, outcomes)
        shape = (len(self._members), len(frames), k)
        mean, sampling = np.full(shape, np.nan), np.zeros(shape)
        flags: dict[str, str] = {}
        for m, member in enumerate(self._members):
            for o, recipe in enumerate(self._recipes):
                with torch.no_grad():
                    found = _evaluated(recipe, member, list(frames.values()), self._seed)
                for n, (one, value) in enumerate(zip(frames, found, strict=True)):
                    if isinstance(value, Value):
                        mean[m, n, o], sampling[m, n, o] = value.mean, value.spread
                        if value.flag:
                            flags.setdefault(one, value.flag)
                    else:
                        flags.setdefault(one, _reason(value))
        together = mean.mean(axis=0)  # NaN where any member fails: the others are no better off
        disagreement = mean.std(axis=0, ddof=1) if len(mean) > 1 else np.zeros_like(together)
        spread = np.sqrt(disagreement**2 + (sampling**2).mean(axis=0))
        for n, one in enumerate(frames):
            self._known[one] = (together[n], spread[n], flags.get(one))


def _evaluated(
    recipe: Outcome, member: PropertySimulator, structures: Sequence[Frame], seed: int
) -> Sequence[Value | Failure]:
    """In halves where one molecule, of an element that the world never saw say, stops the others."""
    try:
        return recipe.evaluate_many(member, structures, seed)
    except (SimulatorError, UnseenSpeciesError) as error:
        if len(structures) == 1:
            return [Failure("calculation", str(error))]
    half = len(structures) // 2
    parts = (structures[:half], structures[half:])
    return [one for part in parts for one in _evaluated(recipe, member, part, seed)]


def _reason(failure: Failure) -> str:
    return f"{failure.stage}: {failure.reason}"


def version_of(files: Sequence[Path]) -> str:
    """The version of the ensemble of these model files."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"world-{digest[:12]}"
