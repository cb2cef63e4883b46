"""Where modules are now that model files, job files and ledgers know by an older name."""

MOVED = {
    "sciwm.discovery.acquisition": "sciwm.discovery.planners.acquisition",
    "sciwm.discovery.alerts": "sciwm.discovery.problem.structural_alerts",
    "sciwm.discovery.calibration": "sciwm.discovery.surrogate.calibration",
    "sciwm.discovery.descriptors": "sciwm.discovery.problem.descriptors",
    "sciwm.discovery.favourites": "sciwm.discovery.analysis.winners_curse",
    "sciwm.discovery.fingerprints": "sciwm.discovery.surrogate.fingerprints",
    "sciwm.discovery.fitting": "sciwm.discovery.surrogate.fitting",
    "sciwm.discovery.gates": "sciwm.discovery.problem.gates",
    "sciwm.discovery.hypothesis": "sciwm.discovery.problem.hypothesis",
    "sciwm.discovery.learning": "sciwm.discovery.surrogate.learning",
    "sciwm.discovery.ledger": "sciwm.discovery.experiment.ledger",
    "sciwm.discovery.merit": "sciwm.discovery.problem.scoring",
    "sciwm.discovery.objective": "sciwm.discovery.problem.objective",
    "sciwm.discovery.oracle": "sciwm.discovery.experiment.oracle",
    "sciwm.discovery.outcomes": "sciwm.discovery.problem.outcomes",
    "sciwm.discovery.pareto": "sciwm.discovery.problem.pareto",
    "sciwm.discovery.predictors": "sciwm.discovery.surrogate.predictors",
    "sciwm.discovery.proportions": "sciwm.discovery.analysis.binomial_intervals",
    "sciwm.discovery.proposers": "sciwm.discovery.planners.proposers",
    "sciwm.discovery.scorecard": "sciwm.discovery.analysis.scorecard",
    "sciwm.models.bonding": "sciwm.models.dynamics.bonding",
    "sciwm.models.compilation": "sciwm.models.programs.compilation",
    "sciwm.models.encoder": "sciwm.models.encoders.encoder",
    "sciwm.models.force_field": "sciwm.models.dynamics.force_field",
    "sciwm.models.pair_potential": "sciwm.models.dynamics.pair_potential",
    "sciwm.models.passes": "sciwm.models.dynamics.passes",
    "sciwm.models.potential": "sciwm.models.dynamics.potential",
    "sciwm.models.radial": "sciwm.models.encoders.radial",
    "sciwm.models.repulsion": "sciwm.models.dynamics.repulsion",
    "sciwm.models.short_range": "sciwm.models.dynamics.short_range",
    "sciwm.models.spherical": "sciwm.models.encoders.spherical",
    "sciwm.models.tracing": "sciwm.models.programs.tracing",
}
"""Old path of a module, or of a folder of modules, and the new one."""


def current_path(path: str) -> str:
    """The path that a class has now, given one that it has or had."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        new = MOVED.get(".".join(parts[:length]))
        if new is not None:
            return ".".join([new, *parts[length:]])
    return path
