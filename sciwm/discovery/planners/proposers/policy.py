"""A policy that learns which edits pay, from scores alone: the baseline without a model of the world.

An episode starts at a given molecule and makes up to `depth` edits; its reward is the score of
where it ends. The policy is improved by REINFORCE (Williams 1992) with a moving baseline and a
bonus for entropy.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor, nn

from sciwm.discovery.planners.proposers.edits import TRIES, EditSpace, PlacedEdit
from sciwm.discovery.planners.proposers.novelty import Novelty, canonical
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

BITS = 1024
"""Of the Morgan fingerprint that the policy sees of a molecule."""

SURROUNDINGS = 256
"""Kinds of atom, by a hash of the neighbours, that the policy tells apart as sites."""

REMEMBERED = 2000
"""Episodes kept until their scores come."""

BATCH = 8
"""Episodes per step of the optimiser."""

MEMORY = 0.9
"""Share of the baseline that stays from one episode to the next, in bias-corrected averages."""


HEATING = 1.1
"""Factor on the temperature of the policy after an episode that found nothing new."""


@dataclass(frozen=True, eq=False)
class _Choice:
    """What one step of an episode saw and did.

    Attributes:
        fingerprint: (BITS,) counts up to 255 of the molecule's surroundings.
        progress: Share of the allowed edits already made.
        edits: (A,) kinds of the actions; the last one stops.
        sites: (A,) surroundings of their sites.
        chosen: Number of the action taken.
    """

    fingerprint: NDArray[np.uint8]
    progress: float
    edits: NDArray[np.int64]
    sites: NDArray[np.int64]
    chosen: int


class _Preferences(nn.Module):
    """Scores every action by its kind, its site and the molecule; equal for all at first."""

    def __init__(self, kinds: int, width: int, seed: int):
        super().__init__()
        source = torch.Generator().manual_seed(seed)
        self.body = nn.Linear(BITS + 1, width)
        self.kind = nn.Linear(width, kinds)
        self.query = nn.Linear(width, 16)
        self.site = nn.Embedding(SURROUNDINGS + 1, 16)
        self.pair = nn.Embedding(kinds, 16)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(std=0.05, generator=source)
            for layer in (self.kind, self.site):
                for weight in layer.parameters():
                    weight.zero_()

    def forward(self, seen: Tensor, edits: Tensor, sites: Tensor) -> Tensor:
        """(S, A) unnormalised log probabilities of A actions at S steps, from (S, BITS + 1)."""
        hidden = torch.tanh(self.body(seen))
        by_site = (self.query(hidden)[:, None] + self.pair(edits)) * self.site(sites)
        return self.kind(hidden).gather(1, edits) + by_site.sum(-1)


class PolicyGradient:
    """Proposes where its policy leads, and reinforces what scored above its moving average.

    Rewards are scaled by their moving spread, so that scores may have any unit; a failed or
    refused candidate counts as one spread below the average. Every episode that ends where one
    ended before makes the next one more random, and every new molecule less so, so that a policy
    which has settled still finds something new.

    What it learns lives as long as it does. A campaign makes its proposers anew in every round, so
    that there it learns from what is imagined, over the plan's generations.

    Args:
        start: SMILES that episodes start from.
        depth: Most edits in one episode.
        space: The edits.
        max_heavy: Largest candidate, in heavy atoms.
        learning_rate: Of Adam.
        entropy: Weight of the bonus for undecided policies, in units of the scaled reward.
        seed: Of the first weights.

    Raises:
        ValueError: If a SMILES at the start names no sound molecule.
    """

    name = "policy gradient"

    def __init__(
        self,
        start: Sequence[str],
        depth: int = 4,
        space: EditSpace | None = None,
        max_heavy: int = 40,
        learning_rate: float = 0.01,
        entropy: float = 0.02,
        seed: int = 0,
    ):
        if depth < 1:
            raise ValueError(f"{depth=} must be at least 1 edit")
        self.start = tuple(dict.fromkeys(canonical(smiles) for smiles in start))
        self.depth = depth
        self.space = space or EditSpace()
        self.entropy = entropy
        self._stop = len(self.space.edits)
        self._policy = _Preferences(self._stop + 1, 64, seed)
        self._optimiser = torch.optim.Adam(self._policy.parameters(), lr=learning_rate)
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self.start)
        self._episodes: OrderedDict[str, list[_Choice]] = OrderedDict()
        self._heat = 1.0
        self._average = _MovingAverage()
        self._state = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)
        self._around = rdFingerprintGenerator.GetMorganGenerator(radius=1)

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n ends of episodes, with their starts as parents."""
        found: list[Candidate] = []
        for _ in range(TRIES * n if self.start else 0):
            if len(found) == n:
                break
            parent = self.start[int(rng.integers(len(self.start)))]
            end, choices = self._episode(parent, rng)
            smiles = self._novelty.admit(end)
            if smiles:
                self._episodes[smiles] = choices
                found.append(Candidate(smiles, self.name, (parent,)))
            self._heat = max(self._heat * (1 / HEATING if smiles else HEATING), 1.0)
        while len(self._episodes) > REMEMBERED:
            self._episodes.popitem(last=False)
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """Learns from its own candidates; those of others only count as known."""
        self._novelty.remember(one.candidate.smiles for one in scored)
        told = [
            (self._episodes[one.candidate.smiles], one.score)
            for one in scored
            if one.candidate.smiles in self._episodes
        ]
        advantages = [
            self._average.advantage(score) if score is not None and np.isfinite(score) else -1.0
            for _, score in told
        ]
        for first in range(0, len(told), BATCH):
            episodes = [choices for choices, _ in told[first : first + BATCH]]
            self._reinforce(episodes, advantages[first : first + BATCH])

    def _episode(self, smiles: str, rng: np.random.Generator) -> tuple[str, list[_Choice]]:
        choices: list[_Choice] = []
        for step in range(self.depth):
            molecule = self.space.prepared(smiles)
            actions = self.space.actions(molecule)
            choice = self._seen(molecule, actions, step / self.depth)
            with torch.no_grad():
                logs = self._log_probabilities([choice])[0].double()
                weights = (logs / self._heat).softmax(-1).numpy()
            chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
            if chosen == len(actions) and not choices:
                continue  # a start is no candidate
            choices.append(
                _Choice(choice.fingerprint, choice.progress, choice.edits, choice.sites, chosen)
            )
            if chosen == len(actions):
                break
            smiles = self.space.apply(molecule, actions[chosen]) or smiles
        return smiles, choices

    def _seen(self, molecule: Chem.Mol, actions: Sequence[PlacedEdit], progress: float) -> _Choice:
        counts = self._state.GetCountFingerprintAsNumPy(molecule)
        kinds = np.zeros(molecule.GetNumAtoms(), dtype=np.int64)
        extra = rdFingerprintGenerator.AdditionalOutput()
        extra.AllocateAtomToBits()
        self._around.GetSparseFingerprint(molecule, additionalOutput=extra)
        for atom, bits in enumerate(extra.GetAtomToBits()):
            kinds[atom] = bits[-1] % SURROUNDINGS if bits else 0
        sites = [*(kinds[action.site] for action in actions), SURROUNDINGS]
        return _Choice(
            fingerprint=np.minimum(counts, 255).astype(np.uint8),
            progress=progress,
            edits=np.array([*(action.edit for action in actions), self._stop], dtype=np.int64),
            sites=np.array(sites, dtype=np.int64),
            chosen=-1,
        )

    def _log_probabilities(self, choices: Sequence[_Choice]) -> Tensor:
        """(S, A) of all actions at every step, with -inf beyond a step's last one."""
        longest = max(len(choice.edits) for choice in choices)
        edits = np.zeros((len(choices), longest), dtype=np.int64)
        sites = np.zeros_like(edits)
        real = np.zeros(edits.shape, dtype=bool)
        for i, choice in enumerate(choices):
            edits[i, : len(choice.edits)] = choice.edits
            sites[i, : len(choice.edits)] = choice.sites
            real[i, : len(choice.edits)] = True
        prints = np.stack([choice.fingerprint for choice in choices])
        progress = np.array([[choice.progress] for choice in choices])
        seen = np.concatenate([prints, progress], axis=1, dtype=np.float32)
        logits = self._policy(
            torch.from_numpy(seen), torch.from_numpy(edits), torch.from_numpy(sites)
        )
        return logits.masked_fill(~torch.from_numpy(real), -torch.inf).log_softmax(-1)

    def _reinforce(self, episodes: Sequence[list[_Choice]], advantages: Sequence[float]) -> None:
        choices = [choice for episode in episodes for choice in episode]
        if not choices:
            return
        gains = torch.tensor(
            [gain for episode, gain in zip(episodes, advantages, strict=True) for _ in episode],
            dtype=torch.get_default_dtype(),
        )
        logs = self._log_probabilities(choices)
        taken = logs.gather(1, torch.tensor([[choice.chosen] for choice in choices]))[:, 0]
        undecided = -(logs.exp() * logs.masked_fill(logs.isinf(), 0)).sum(-1)
        loss = -(gains * taken + self.entropy * undecided).sum() / len(episodes)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._policy.parameters(), 1.0)
        self._optimiser.step()


class _MovingAverage:
    """Mean and spread of the rewards of late."""

    def __init__(self) -> None:
        self._weight = self._sum = self._squares = 0.0

    def advantage(self, score: float) -> float:
        """How far a score is from the average before it, in spreads; then counts it."""
        gain = 0.0
        if self._weight:
            mean = self._sum / self._weight
            spread = max(self._squares / self._weight - mean**2, 0.0) ** 0.5
            gain = float(np.clip((score - mean) / spread, -3, 3)) if spread > 0 else 0.0
        self._weight = MEMORY * self._weight + 1
        self._sum = MEMORY * self._sum + score
        self._squares = MEMORY * self._squares + score**2
        return gain
