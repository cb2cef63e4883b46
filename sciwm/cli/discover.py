"""`sciwm discover`: propose, imagine, score, verify, learn, to a budget."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from sciwm.discovery.campaigns import Job
    from sciwm.discovery.problem.hypothesis import Hypothesis


def discover(config: str, *, name: str | None = None, folder: str = "runs", seed: int = 0) -> int:
    """Runs a discovery campaign as a YAML file says, and goes on with it if it was interrupted.

    Any option of the file can be given after it, such as --plan.calls 200; `sciwm discover --options`
    lists them all. The folder of the campaign gets ledger.sqlite with every hypothesis, predicted and
    measured; hypotheses.csv, the same as a table; and report.html, a page with pictures.

    Args:
        config: The job file (YAML: objective, outcomes, proposers, gates, reference, budget), or the name
            of one that comes with sciwm.
        name: Of the campaign and its folder; the file's own name where absent.
        folder: Where campaign folders are made.
        seed: Of every choice, conformer, velocity and noise.
    """
    raise AssertionError("handled by `run`, which knows the options of the job file")


def run(arguments: list[str]) -> int:
    """Parses the job with jsonargparse, runs the campaign, writes its page."""
    from pathlib import Path

    from sciwm.cli.job_files import read_job
    from sciwm.discovery.campaigns import Job, run_campaign
    from sciwm.report.campaign.reading import read_campaign
    from sciwm.report.campaign.report import write_campaign_report
    from sciwm.report.live import LiveView

    def seed(parser: Any) -> None:
        parser.add_argument("--seed", type=int, default=0, help="Of every choice.")

    found = read_job(arguments, "discover", Job, "a campaign", seed)
    if found is None:
        return 0
    job, parsed = found
    name, folder = parsed.name, Path(parsed.folder) / parsed.name
    before = earlier(job, name, folder)
    goal = job.goal()
    with LiveView(job.plan.calls, job.plan.seconds, job.units(), before, goal) as view:
        run_campaign(job, name, folder, parsed.seed, view)
    page = write_campaign_report(read_campaign(job, name, folder), folder / "report.html")
    print(f"every hypothesis: {folder / 'hypotheses.csv'}\nthe page with pictures: {page}")
    return 0


def earlier(job: "Job", name: str, folder: "Path") -> "list[Hypothesis]":
    """What the campaign had before, if it had begun."""
    from sciwm.discovery.experiment.ledger import Ledger, LedgerError

    try:
        with Ledger(job.ledger or folder / "ledger.sqlite", read_only=True) as ledger:
            return ledger.campaign(name).hypotheses() if name in ledger.campaigns() else []
    except LedgerError:
        return []  # there is none yet; if it is for another reason, the campaign will say so
