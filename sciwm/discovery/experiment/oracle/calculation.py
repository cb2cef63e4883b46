"""What a reference run is asked, and what it answers: plain data that fit into a line of JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sciwm.core.construction import Description
from sciwm.discovery.problem.hypothesis import Failure, Measurement


@dataclass(frozen=True)
class Calculation:
    """One molecule to be measured.

    Attributes:
        smiles: Canonical.
        outcomes: The recipes, measured in this order.
        reference: The simulator they run on.
        seed: Of the conformer and of whatever the recipes draw.
        attempt: Tries that were made before.
    """

    smiles: str
    outcomes: tuple[Description, ...]
    reference: Description
    seed: int = 0
    attempt: int = 0

    @cached_property
    def key(self) -> str:
        """The same for equal questions, whichever try it is: SHA-256 in hexadecimal digits."""
        asked = [self.smiles, list(self.outcomes), self.reference, self.seed]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class CalculationResult:
    """What became of a task.

    Attributes:
        smiles: As it was asked.
        key: Of the task.
        measurements: By outcome name; where there is a failure, of the outcomes before it.
        failure: Why a measurement is missing; None where all are there.
        seconds: Processor time of all tries together: of the process and of those it started, which
            the reference is; a try whose process was killed counts with its wall time.
        attempts: Tries made.
        frames_path: Structures met on the way, with energies and forces, as H5MD; None without any.
        frames_hash: SHA-256 of that file.
        host: Where the last try ran.
        started, ended: Of the last try, in seconds since 1970.
    """

    smiles: str
    key: str
    measurements: dict[str, Measurement] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: float = 0.0
    attempts: int = 1
    frames_path: Path | None = None
    frames_hash: str = ""
    host: str = ""
    started: float = 0.0
    ended: float = 0.0

    def after(self, earlier: "CalculationResult | None") -> "CalculationResult":
        """With the cost of the tries before."""
        return self if earlier is None else replace(self, seconds=self.seconds + earlier.seconds)

    def to_json(self) -> str:
        """One line; the frames by the name of their file alone, since folders move."""
        content = asdict(self)
        content["frames_path"] = self.frames_path.name if self.frames_path else None
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, folder: Path) -> "CalculationResult":
        """What `to_json` wrote, with the frames in `folder`.

        Raises:
            ValueError: If it is no answer.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            found = {name: Measurement(**one) for name, one in content["measurements"].items()}
            failure = content["failure"]
            frames = content["frames_path"]
            return cls(
                **content
                | {
                    "measurements": found,
                    "failure": Failure(**failure) if failure else None,
                    "frames_path": folder / frames if frames else None,
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not an answer: {type(error).__name__} {error}") from error
