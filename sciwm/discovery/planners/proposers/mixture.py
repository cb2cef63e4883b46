"""Several proposers, each asked as often as its ideas pay."""

from collections.abc import Sequence

import numpy as np

from sciwm.discovery.planners.proposers.proposer import Proposer, Scored
from sciwm.discovery.problem.hypothesis import Candidate

HIT_SHARE = 0.1
"""A score counts as a hit while it is among this share of the best of all scores so far."""


class Mixture:
    """Shares requests by Thompson sampling of hits per second of the reference.

    The rate of a member is Gamma(hits + 1, seconds + mean seconds of one run): hits are Poisson
    events in reference time (Chapelle and Li 2011 for the sampling). Scores that cost nothing,
    such as imagined ones, count only while no score has cost anything, as one second each.

    Args:
        members: With different names.
        floor: Share of all candidates that every member gives at least, while it has any.

    Raises:
        ValueError: If there are no members, two share a name, or the floors exceed the whole.
    """

    name = "mixture"

    def __init__(self, members: Sequence[Proposer], floor: float = 0.05):
        names = [member.name for member in members]
        if not members or len(set(names)) < len(names):
            raise ValueError(f"a mixture needs members with different names, got {names}")
        if not 0 <= floor * len(members) <= 1:
            raise ValueError(
                f"{floor=} for each of {len(members)} members is more than the whole; use at most "
                f"{1 / len(members):.3f}"
            )
        self.members = tuple(members)
        self.floor = floor
        self.given = dict.fromkeys(names, 0)
        self._told: dict[str, Scored] = {}
        self._seen: set[str] = set()

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n candidates; members that run dry leave their share to the others."""
        found: list[Candidate] = []
        live = list(self.members)
        while len(found) < n and live:
            for member, wanted in zip(live, self._shares(n - len(found), live, rng), strict=True):
                if not wanted:
                    continue
                answer = member.ask(wanted, rng)
                fresh = [one for one in answer if one.smiles not in self._seen]
                self._seen.update(one.smiles for one in fresh)
                self.given[member.name] += len(fresh)
                found += fresh
                if not answer:
                    live = [other for other in live if other is not member]
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """Every member hears of all candidates."""
        for one in scored:
            before = self._told.get(one.candidate.smiles)
            if one.cost > 0 or before is None or before.cost == 0:  # measured beats imagined
                self._told[one.candidate.smiles] = one
        self._seen.update(one.candidate.smiles for one in scored)
        for member in self.members:
            member.tell(scored)

    def rates(self) -> dict[str, tuple[float, float]]:
        """Hits and seconds of every member so far."""
        paid = [one for one in self._told.values() if one.cost > 0]
        counted = paid or list(self._told.values())
        scores = [one.score for one in counted if one.score is not None]
        bar = float(np.quantile(scores, 1 - HIT_SHARE)) if scores else np.inf
        found = {member.name: (0.0, 0.0) for member in self.members}
        for one in counted:
            if one.candidate.proposer in found:
                hits, seconds = found[one.candidate.proposer]
                hit = one.score is not None and one.score >= bar
                found[one.candidate.proposer] = (hits + hit, seconds + (one.cost or 1.0))
        return found

    def _shares(self, n: int, live: Sequence[Proposer], rng: np.random.Generator) -> list[int]:
        rates = self.rates()
        costs = [one.cost for one in self._told.values() if one.cost > 0]
        prior = float(np.mean(costs)) if costs else 1.0
        hits = np.array([rates[member.name][0] for member in live])
        seconds = np.array([rates[member.name][1] for member in live])
        given = np.array([self.given[member.name] for member in live])
        shares = np.zeros(len(live), dtype=int)
        for total in range(sum(self.given.values()) + 1, sum(self.given.values()) + n + 1):
            behind = self.floor * total - given - shares
            if behind.max() > 0:
                choice = int(behind.argmax())
            else:
                choice = int(rng.gamma(hits + 1, 1 / (seconds + prior)).argmax())
            shares[choice] += 1
        return shares.tolist()
