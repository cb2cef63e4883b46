"""A campaign's record, read from its ledger and what its reference runs left behind."""

from pathlib import Path

from sciwm.core.frame import Frame
from sciwm.data.h5md import H5MDFile
from sciwm.discovery.analysis import scorecard
from sciwm.discovery.campaigns import Job
from sciwm.discovery.experiment.ledger import Ledger
from sciwm.discovery.problem.scoring import merit_of, met
from sciwm.report.campaign.record import CampaignRecord, ModelCard

SHOWN = 6
"""Best molecules whose structures are read."""


def read_campaign(job: Job, name: str, folder: Path) -> CampaignRecord:
    """Everything the page of a campaign shows.

    Raises:
        LedgerError: If there is no such campaign.
    """
    objective = job.goal()
    with Ledger(job.ledger or folder / "ledger.sqlite", read_only=True) as ledger:
        campaign = ledger.campaign(name)
        hypotheses, models, files = campaign.hypotheses(), campaign.models(), campaign.frames()
    hypotheses = met(hypotheses, objective)
    units = {recipe.name: recipe.unit for recipe in job.recipes()}
    best = scorecard.ranked(hypotheses)[:SHOWN]
    geometries = {}
    for one in best:
        path, _ = files.get(one.candidate.smiles, ("", ""))
        if Path(path).is_file():
            geometries[one.candidate.smiles] = _first_frame(Path(path))
    runs = [one.cost for one in scorecard.paid(hypotheses)]
    seconds = [
        m.errors["seconds per molecule"] for m in models if "seconds per molecule" in m.errors
    ]
    reference = {"all outcomes": sum(runs) / len(runs)} if runs else {}
    return CampaignRecord(
        name=name,
        objective=job.objective,
        goals=[str(goal) for goal in objective.goals],
        units=units,
        merit=merit_of(objective),
        hypotheses=hypotheses,
        budget_calls=job.plan.calls,
        budget_seconds=job.plan.seconds,
        model_cost={"all outcomes": sum(seconds) / len(seconds)} if seconds else {},
        reference_cost=reference,
        geometries=geometries,
        models=[
            ModelCard(one.version, one.promoted, dict(one.errors), one.trained_on, one.note)
            for one in models
        ],
    )


def _first_frame(path: Path) -> Frame:
    with H5MDFile(path) as file:
        return file.trajectories[0].frame(0)
