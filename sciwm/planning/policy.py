"""A policy: what to choose next, from what is seen of a motion; learned by an actor and a critic that live
in imagination only.

The recipe is that of DreamerV3 (Hafner et al., arXiv:2301.04104): λ-returns, a critic of symlog two-hot
values that is drawn to its own slow average, an actor that follows the score function with returns scaled by
their range, and a little entropy. Two things differ. Motions are short and know what time is left, so that
nothing is discounted. And as imagining costs more here than learning, each batch is learned from several
times, as far as the clipped ratio of probabilities allows (Schulman et al., arXiv:1707.06347, equation 7).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sciwm.core.bounds import require_counts, require_not_negative, require_positive, require_seed
from sciwm.core.frame import Array
from sciwm.core.progress import Bar
from sciwm.planning.episodes import Episodes
from sciwm.planning.search import cautious_mean

SEEDS = 10**9
"""Of imagined motions, that agents of other seeds do not share."""

BINS = 255
"""Values that a critic's probabilities are of; symexp of numbers from -20 to 20 (equation 9 there)."""


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(|x| + 1): nearly x where small."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


def two_hot(values: Tensor, bins: Tensor) -> Tensor:
    """(..., B) weights of the two neighbouring bins between which each value is, so that their mean is it.

    Args:
        bins: (B,) ascending.
    """
    values = values.clamp(bins[0], bins[-1])
    upper = torch.searchsorted(bins, values.contiguous()).clamp(1, len(bins) - 1)
    low, high = bins[upper - 1], bins[upper]
    share = (values - low) / (high - low)
    weights = values.new_zeros(*values.shape, len(bins))
    weights.scatter_(-1, upper[..., None], share[..., None])
    return weights.scatter_add_(-1, (upper - 1)[..., None], (1.0 - share)[..., None])


def lambda_returns(rewards: Tensor, values: Tensor, decay: float) -> Tensor:
    """(T, S) what is still to come, of rewards after each stage and of the critic's values of what is seen
    next (Sutton & Barto, Reinforcement Learning, 2nd ed., equation 12.20, undiscounted).

    Args:
        rewards: (T, S).
        values: (T, S) of what is seen after each stage; nothing is to come after the last.
        decay: λ; 1 for what really came.
    """
    found = torch.zeros_like(rewards)
    found[-1] = rewards[-1]
    for t in range(len(rewards) - 2, -1, -1):
        found[t] = rewards[t] + (1.0 - decay) * values[t] + decay * found[t + 1]
    return found


def perceptron(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers."""
    layers: list[nn.Module] = []
    for size in (inputs, hidden):
        layers += [nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.SiLU()]
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class Policy(nn.Module):
    """A normal distribution over the numbers of a stage, from what is seen.

    Args:
        seen: Numbers that are seen.
        size: Numbers that are chosen.
    """

    spread = 0.05, 1.0

    def __init__(self, seen: int, size: int, hidden: int = 64):
        super().__init__()
        self.net = perceptron(seen, 2 * size, hidden)
        self.register_buffer("middle", torch.zeros(seen))
        self.register_buffer("scale", torch.ones(seen))

    def fit_scale(self, seen: Tensor) -> None:
        """Takes what was seen, (..., n), for what is usual."""
        flat = seen.reshape(-1, seen.shape[-1])
        self.middle = flat.mean(dim=0)
        self.scale = flat.std(dim=0).clamp(min=1e-6)

    def usual(self, seen: Tensor) -> Tensor:
        """The same in units of what is usual, compressed where it is not."""
        return symlog((seen - self.middle) / self.scale)

    def forward(self, seen: Tensor) -> torch.distributions.Normal:
        """Over what is chosen, where -1 and 1 are the ends of a range."""
        mean, spread = self.net(self.usual(seen)).chunk(2, dim=-1)
        low, high = self.spread
        return torch.distributions.Normal(
            mean.tanh(), low + (high - low) * torch.sigmoid(spread + 1.0)
        )

    @torch.no_grad()
    def choose(self, seen: Array) -> Array:
        """(S, size) the most likely choice, from 0 to 1."""
        mean = self(torch.as_tensor(seen, dtype=torch.float32)).mean
        return np.asarray(shares(mean).double())


def shares(choice: Tensor) -> Tensor:
    """From -1 .. 1 to 0 .. 1; beyond the ends is at them."""
    return (0.5 * choice + 0.5).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Lessons:
    """How much is learned in imagination.

    Attributes:
        batches: Of motions, each in the next of the worlds.
        motions: In a batch.
        passes: Over each batch.
        learning_rate: Of Adam, for actor and critic.
        caution: Standard deviations between worlds that are taken off the mean return.
    """

    batches: int = 50
    motions: int = 128
    passes: int = 4
    learning_rate: float = 1e-3
    caution: float = 1.0

    def __post_init__(self) -> None:
        require_counts(batches=self.batches, motions=self.motions, passes=self.passes)
        require_positive(learning_rate=self.learning_rate)
        require_not_negative(caution=self.caution)


class ActorCritic:
    """Learns a policy from motions that it imagines; goes on from what it has learned.

    Attributes:
        policy: As it is now.

    Args:
        episodes: Of the kind that it will learn from.
        seed: Of its weights, and of what it tries.
    """

    trace_decay = 0.95
    """λ."""
    entropy = 3e-4
    clip = 0.2
    slowness = 0.98
    """Share of the slow critic that is kept from one step of learning to the next."""
    range_kept = 0.9
    """Share of the range of returns that is kept from one step of learning to the next."""

    def __init__(self, episodes: Episodes, seed: int = 0):
        require_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = Policy(episodes.size, episodes.problem.controls.size)
            # In single precision a mean over values up to e²⁰ would drown returns of a hundredth.
            self._critic = perceptron(episodes.size, BINS, 64).double()
        self._slow = copy.deepcopy(self._critic)
        self._bins = symexp(torch.linspace(-20.0, 20.0, BINS, dtype=torch.float64))
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer = torch.optim.Adam(self._parameters)
        self._range = torch.zeros((), dtype=torch.float64)  # of returns; none are known yet
        self._scaled = False
        self._next = (seed + 1) * SEEDS  # those below are for predictions and true motions

    def improve(self, episodes: Sequence[Episodes], lessons: Lessons) -> list[float]:
        """Mean return of each batch of motions, less what standing still is worth.

        What is chosen is done in all worlds alike, so that a motion is worth what it comes to on the mean,
        and less where they disagree. They take turns at being the one in which it is seen what to choose.

        Args:
            episodes: In each of the worlds.

        Raises:
            ArithmeticError: If no motion of a batch can go on to its end.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lessons.learning_rate
        earned = []
        with Bar(total=lessons.batches, unit="batch", delay=2.0) as bar:
            for number in range(lessons.batches):
                turn = number % len(episodes)
                worlds = [*episodes[turn:], *episodes[:turn]]
                seen, choices, rewards = self._imagined(worlds, lessons)
                earned.append(float(rewards.sum(dim=0).mean()))
                if not self._scaled:
                    # What was seen while nothing was learned yet tells only what is usual.
                    self.policy.fit_scale(seen)
                    self._scaled = True
                else:
                    self._learn(seen, choices, rewards, lessons.passes)
                bar.set_postfix_str(f"return {earned[-1]:.4g}")
                bar.update()
        return earned

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [*self.policy.parameters(), *self._critic.parameters()]

    @torch.no_grad()
    def _imagined(
        self, worlds: Sequence[Episodes], lessons: Lessons
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(T + 1, S, n) what was seen in the first, (T, S, size) chosen, and (T, S) earned in all."""
        seeds = range(self._next, self._next + lessons.motions)
        self._next += lessons.motions
        now, *_ = [one.begin(seeds) for one in worlds]
        seen, choices = [_tensor(now)], []
        worth = [_worth(worlds, lessons.caution)]
        while not worlds[0].over:
            there = self.policy(seen[-1])
            noise = torch.randn(there.mean.shape, generator=self._generator)
            choices.append(there.mean + there.stddev * noise)
            choice = np.asarray(shares(choices[-1]).double())
            (now, _), *_ = [one.step(choice) for one in worlds]
            seen.append(_tensor(now))
            worth.append(_worth(worlds, lessons.caution))
        for one in worlds:
            if all(one.reasons):
                raise ArithmeticError(
                    f"none of {lessons.motions} imagined motions came to its end: {one.reasons[0]}"
                )
        return torch.stack(seen), torch.stack(choices), torch.as_tensor(np.diff(worth, axis=0))

    def _learn(self, seen: Tensor, choices: Tensor, rewards: Tensor, passes: int) -> None:
        with torch.no_grad():
            before = self.policy(seen[:-1]).log_prob(choices).sum(-1)
        usual = self.policy.usual(seen).double()
        for _ in range(passes):
            with torch.no_grad():
                values = (self._critic(usual).softmax(-1) * self._bins).sum(-1)
                returns = lambda_returns(rewards, values[1:], self.trace_decay)
                low, high = torch.quantile(returns, torch.tensor([0.05, 0.95]).to(returns))
                slow = self._slow(usual[:-1]).softmax(-1)
            kept = self.range_kept if float(self._range) else 0.0
            self._range = kept * self._range + (1.0 - kept) * (high - low).clamp(min=1e-12)
            advantage = (returns - values[:-1]) / self._range
            there = self.policy(seen[:-1])
            ratio = (there.log_prob(choices).sum(-1) - before).exp()
            bounded = ratio.clamp(1.0 - self.clip, 1.0 + self.clip)
            actor = -torch.minimum(ratio * advantage, bounded * advantage).mean()
            actor = actor - self.entropy * there.entropy().sum(-1).mean()
            told = self._critic(usual[:-1]).log_softmax(-1)
            critic = -((two_hot(returns, self._bins) + slow) * told).sum(-1).mean()
            self._optimizer.zero_grad()
            (actor + critic).backward()
            nn.utils.clip_grad_norm_(self._parameters, 10.0)
            self._optimizer.step()
            with torch.no_grad():
                for slower, faster in zip(
                    self._slow.parameters(), self._critic.parameters(), strict=True
                ):
                    slower.lerp_(faster, 1.0 - self.slowness)


def returns_of(policy: Policy, episodes: Episodes, seeds: Sequence[int]) -> Array:
    """(S,) what motions come to that are led by a policy; NaN where one could not go on."""
    seen = episodes.begin(seeds)
    while not episodes.over:
        seen, _ = episodes.step(policy.choose(seen))
    lost = [reason is not None for reason in episodes.reasons]
    return np.where(lost, np.nan, episodes.worth)


def _worth(worlds: Sequence[Episodes], caution: float) -> Array:
    """(S,) what motions are worth that all worlds tell of."""
    return cautious_mean(np.stack([one.worth for one in worlds]), caution)


def _tensor(values: Array) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
