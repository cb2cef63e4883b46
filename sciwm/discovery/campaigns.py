"""A campaign from its settings: everything a job file says, put together and run."""

import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.core.bounds import MOST_WORKERS, require_counts, require_positive, require_seed
from sciwm.core.construction import Description, construct
from sciwm.discovery.experiment.ledger import Campaign, Ledger
from sciwm.discovery.experiment.oracle.calculation import Calculation
from sciwm.discovery.experiment.oracle.oracle import Oracle
from sciwm.discovery.experiment.oracle.parsl_executor import Cluster, parsl_executor
from sciwm.discovery.experiment.oracle.pool import WorkerPool
from sciwm.discovery.experiment.oracle.spool import Spool
from sciwm.discovery.loop import Learner, Listener, Loop
from sciwm.discovery.plan import CampaignPlan, Learning
from sciwm.discovery.planners.acquisition import Acquisition
from sciwm.discovery.planners.proposers.mixture import Mixture
from sciwm.discovery.planners.proposers.proposer import Proposer
from sciwm.discovery.problem.descriptors import DESCRIPTORS
from sciwm.discovery.problem.gates import Gate, Gates
from sciwm.discovery.problem.hypothesis import Hypothesis
from sciwm.discovery.problem.objective.objective import Objective
from sciwm.discovery.problem.outcomes.outcome import Outcome
from sciwm.discovery.problem.outcomes.recipes import recipes_for
from sciwm.discovery.problem.scoring import NothingScoredError
from sciwm.discovery.surrogate.predictors.corrected import CorrectedOutcomes
from sciwm.discovery.surrogate.predictors.imagined import ImaginedOutcomes
from sciwm.discovery.surrogate.predictors.predictor import Predictor
from sciwm.discovery.surrogate.predictors.tanimoto import TanimotoGaussianProcess
from sciwm.evaluation.run import model_file
from sciwm.simulation.references.registry import described, reference_from
from sciwm.simulation.simulator import SimulatorError

PACKAGES = ("sciwm", "torch", "rdkit", "tblite", "pyscf", "numpy", "sqlalchemy")

GRACE = 10.0
"""Seconds that a worker has after its time limit to put down what it found."""


@dataclass(frozen=True)
class Job:
    """What a campaign is to do.

    Attributes:
        objective: Such as "maximize electron_affinity; require sa_score < 4".
        proposers: Sources of candidates, each as class_path and init_args; several share the asking
            by what they earn.
        outcomes: Recipes; the usual ones of what the objective names where absent.
        reference: The simulator that has the last word: a name such as "gfn2", or class_path, which may
            be such a name, and init_args.
        plan: The budget.
        gates: What candidates must pass, the cheapest first.
        models: Trained worlds, as run folders or model files, that imagine the outcomes; several make
            an ensemble. Without any, outcomes are predicted from fingerprints alone.
        learning: How those worlds learn from reference runs; they stay as they are where absent.
        acquisition: What makes a candidate worth a run.
        workers: Reference runs at a time, where no cluster is named.
        cluster: YAML file that says where runs go instead (`experiment.oracle.parsl_executor.Cluster`).
        run_seconds: Time limit of one run.
        run_gigabytes: Memory limit of one run.
        ledger: URL of a PostgreSQL database; a file in the campaign's folder where absent.
    """

    objective: str
    proposers: list[Description]
    outcomes: list[Description] = field(default_factory=list)
    reference: Description | str = "gfn2"
    plan: CampaignPlan = field(default_factory=lambda: CampaignPlan(calls=100))
    gates: list[Description] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    learning: Learning | None = None
    acquisition: Description = field(
        default_factory=lambda: {
            "class_path": "sciwm.discovery.planners.acquisition.UpperConfidence"
        }
    )
    workers: int = 2
    cluster: str | None = None
    run_seconds: float = 600.0
    run_gigabytes: float = 4.0
    ledger: str | None = None

    def __post_init__(self) -> None:
        require_counts(most=MOST_WORKERS, workers=self.workers)
        require_positive(run_gigabytes=self.run_gigabytes)
        if not self.run_seconds > 0:
            raise ValueError(f"run_seconds must be positive, got {self.run_seconds}")

    def science(self) -> dict[str, Any]:
        """All but where and how fast it runs, which may change from one resumption to the next."""
        content = asdict(self)
        for name in ("workers", "cluster", "run_seconds", "run_gigabytes", "ledger"):
            del content[name]
        # A campaign may be given a larger budget later.
        for name in ("calls", "seconds"):
            del content["plan"][name]
        content["reference"] = described(self.reference)  # by whatever name
        content["models"] = {
            path: hashlib.sha256(model_file(path).read_bytes()).hexdigest() for path in self.models
        }
        return json.loads(json.dumps(content))

    def descriptions(self) -> list[Description]:
        """Of the outcomes, as `outcomes` has them or the objective names them."""
        return self.outcomes or recipes_for(self.objective)

    def recipes(self) -> list[Outcome]:
        """The outcomes.

        Raises:
            ValueError: If one cannot be built, or two have one name.
        """
        recipes = [construct(one, Outcome) for one in self.descriptions()]
        names = [recipe.name for recipe in recipes]
        if len(set(names)) < len(names):
            raise ValueError(f"two outcomes share a name: {', '.join(names)}; leave one out")
        return recipes

    def units(self) -> dict[str, str]:
        """Of everything that an objective may name."""
        found = {name: one.unit for name, one in DESCRIPTORS.items()}
        return found | {recipe.name: recipe.unit for recipe in self.recipes()}

    def goal(self) -> Objective:
        """The objective.

        Raises:
            ObjectiveError: If it cannot be read.
        """
        return Objective.parse(self.objective, self.units())


def run_campaign(
    job: Job, name: str, folder: Path, seed: int = 0, listener: Listener | None = None
) -> list[Hypothesis]:
    """Runs a campaign in `folder`, or goes on with it where it was interrupted.

    Raises:
        ValueError: If the job cannot be done as it is written.
        LedgerError: If the campaign was begun with another job, or is being run elsewhere.
        NothingScoredError: If not one score is finite; its table says why.
    """
    require_seed(seed)
    recipes, objective = job.recipes(), job.goal()
    gates = Gates([construct(one, Gate) for one in job.gates])
    acquisition = construct(job.acquisition, Acquisition)
    for one in job.proposers:
        construct(one, Proposer)  # a mistake in the job must show before anything is paid
    predictor: Predictor = TanimotoGaussianProcess([recipe.name for recipe in recipes])
    world: ImaginedOutcomes | None = None
    if job.models:
        world = ImaginedOutcomes.load(job.models, recipes, seed)
        predictor = CorrectedOutcomes(world)
    _require_sound(job, objective, acquisition, recipes, world)
    folder.mkdir(parents=True, exist_ok=True)

    def task(smiles: str) -> Calculation:
        return Calculation(smiles, tuple(job.descriptions()), described(job.reference), seed)

    def proposer() -> Proposer:
        members = [construct(one, Proposer) for one in job.proposers]
        return members[0] if len(members) == 1 else Mixture(members)

    with (
        Ledger(job.ledger or folder / "ledger.sqlite") as ledger,
        executor(job, folder) as runner,
    ):
        campaign = ledger.begin(name, job.science(), seed, _versions())
        oracle = Oracle(runner, Spool(folder / "reference"), job.run_seconds)
        loop = Loop(
            campaign,
            objective,
            proposer,
            gates,
            predictor,
            acquisition,
            oracle,
            task,
            job.plan,
            seed,
            _learner(job, campaign, world, recipes, folder, seed),
        )
        table = folder / "hypotheses.csv"
        try:
            found = loop.run(listener)
        except NothingScoredError:
            campaign.export(table, loop.scores.flaws(campaign.hypotheses()))
            raise
        campaign.export(table, loop.scores.flaws(found))
    return found


@contextmanager
def executor(job: Job, folder: Path) -> Iterator[Executor]:
    """Where reference runs happen."""
    runner: Executor
    if job.cluster is not None:
        runner = parsl_executor(Cluster.read(Path(job.cluster)), folder / "parsl")
    else:
        limit = job.run_seconds + GRACE if math.isfinite(job.run_seconds) else math.inf
        runner = WorkerPool(job.workers, limit, int(job.run_gigabytes * 1e9))
    try:
        yield runner
    finally:
        runner.shutdown(wait=False, cancel_futures=True)


def _require_sound(
    job: Job,
    objective: Objective,
    acquisition: Acquisition,
    recipes: list[Outcome],
    world: ImaginedOutcomes | None,
) -> None:
    """Raises ValueError for mistakes that would show only when runs have been paid."""
    goals = len(objective.goals)
    rng = np.random.default_rng(0)
    try:
        acquisition.score(rng.normal(size=(3, 4, goals)), rng.normal(size=(2, goals)), rng)
    except ValueError as error:
        raise ValueError(
            f"{type(acquisition).__name__} cannot judge this objective of {goals} goals: {error}. "
            "For several goals name sciwm.discovery.planners.acquisition.HypervolumeImprovement"
        ) from error
    if not recipes:
        raise ValueError(
            f"{job.objective!r} needs nothing that a reference gives, so there is nothing to learn "
            "from runs of it; rank molecules by descriptors alone with `sciwm screen`"
        )
    names = {recipe.name for recipe in recipes}
    missing = [n for n in objective.outcomes if n not in names and n not in DESCRIPTORS]
    if missing:
        raise ValueError(
            f"the objective needs {', '.join(missing)}, which no recipe gives; the outcomes are "
            f"{', '.join(sorted(names))}"
        )
    if job.learning is not None:
        for path in (*job.learning.replay, *job.learning.kept):
            if not Path(path).is_file():
                raise FileNotFoundError(
                    f"worlds are to learn from {path}, and there is no such file"
                )
    needed = sorted({name for recipe in recipes for name in recipe.needs})
    if world is not None and needed:
        world.require(needed)
    try:
        reference_from(job.reference).require(needed)
    except SimulatorError as error:
        raise ValueError(f"outcomes need what the reference does not give: {error}") from error


def _learner(
    job: Job,
    campaign: Campaign,
    world: ImaginedOutcomes | None,
    recipes: list[Outcome],
    folder: Path,
    seed: int,
) -> Learner | None:
    if job.learning is None:
        return None
    if world is None:
        raise ValueError(
            "there are no worlds to learn; name some in `models`, or leave out `learning`"
        )
    from sciwm.discovery.surrogate.learning import (
        WorldLearner,  # brings Lightning, which takes seconds
    )

    models = [model_file(path) for path in job.models]
    return WorldLearner(job.learning, campaign, world, models, recipes, folder / "worlds", seed)


def _versions() -> dict[str, str]:
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue  # a reference that this campaign does not use
    return installed
