"""Counterfactuals: paired runs, effects with their spread, and how long they mean anything."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import OLD_MODEL, loaded_without_digest

from sciwm.core.state import State
from sciwm.core.units import REDUCED
from sciwm.interfaces.what_if import likely
from sciwm.interfaces.world import World
from sciwm.simulation.actions import ConstantForce, Frozen, MassChange, Removal


@pytest.fixture(scope="module")
def world() -> World:
    return World(loaded_without_digest(OLD_MODEL))


def speed(frame):
    return float(np.linalg.norm(frame.velocities[0]))


def test_no_action_has_no_effect_and_no_horizon_before_the_start(world):
    answer = world.what_if(molecule("H2O"), "5fs", [], temperature="300K", seeds=2)
    assert answer.parting.shape == answer.blur.shape == (2, len(answer.times))
    assert not answer.parting.any()
    assert answer.blur[:, 0] == pytest.approx(0.001, rel=0.5)
    assert answer.horizon == 0.0
    assert not answer.effect(speed).mean.any()


def test_a_force_does_at_first_what_newton_says(world):
    """Half a t² of the difference in acceleration, whatever the world's own forces are."""
    answer = world.what_if(
        molecule("H2O"),
        "1fs",
        [ConstantForce([1], ["0.5 eV/Å", 0, 0])],
        dt="0.1fs",
        every=2,
        seeds=1,
        resolution=1e-5,
    )
    effect = answer.effect(lambda frame: frame.positions[1, 0])
    expected = 0.5 * 0.5 * world.units.acceleration / 1.008 * answer.times**2
    np.testing.assert_allclose(effect.mean, expected, rtol=0.02, atol=2e-6)
    np.testing.assert_allclose(effect.low, effect.mean)  # one run has no spread
    assert answer.horizon is None


def test_the_same_random_numbers_move_both(world):
    """Unpaired runs would differ by far more than a heavier hydrogen makes them."""
    answer = world.what_if(
        molecule("H2O"), "4fs", [MassChange([1], 1.1)], temperature="300K", dt="0.2fs", seeds=3
    )
    other = world.imagine(molecule("H2O"), "4fs", "300K", dt="0.2fs", seed=5)
    apart = np.linalg.norm(other.frames[-1].positions - answer.without[0][-1].positions)
    assert answer.parting[:, -1].max() < 0.2 * apart
    assert len({frame[-1].positions.tobytes() for frame in answer.without}) == 3


def test_particles_are_compared_with_themselves_where_others_are_gone(world):
    answer = world.what_if(molecule("H2O"), "1fs", [Removal([0])], dt="0.2fs", seeds=1)
    assert answer.before == [1, 2]
    assert answer.parting[0, 0] == 0.0
    assert len(answer.acted[0][0]) == 2


def test_a_world_imagines_under_actions(world):
    frozen = world.imagine(molecule("H2O"), "5fs", "300K", actions=[Frozen([0, 1])])
    assert np.array_equal(frozen.frames[0].positions[:2], frozen.frames[-1].positions[:2])
    assert not np.array_equal(frozen.frames[0].positions[2], frozen.frames[-1].positions[2])


def test_the_horizon_ends_where_twins_have_parted_as_far():
    from sciwm.core.frame import Frame
    from sciwm.interfaces.what_if import WhatIf

    def path(places):
        return [
            [
                Frame(np.array([1]), np.array([[x, 0.0, 0.0]]), time=float(k))
                for k, x in enumerate(places)
            ]
        ]

    answer = WhatIf(
        path([0, 0, 0, 0]), path([0, 1, 1, 1]), path([0.1, 0.2, 0.9, 1.5]), [0], [None], REDUCED
    )
    assert answer.horizon == 3.0
    assert answer._repr_png_()[:4] == b"\x89PNG"
    long = WhatIf(path([0, 0]), path([0, 1]), path([0.1, 0.2]), [0], [None], REDUCED)
    assert long.horizon is None


def test_bounds_of_several_worlds_hold_for_the_truth():
    """Where worlds err at random about the truth, nine of ten of its effects are inside. What single worlds
    and runs span holds more or fewer."""
    rng = np.random.default_rng(0)
    cases = 20_000
    for worlds, runs, noise in ((4, 3, 0.5), (4, 1, 0.0), (3, 8, 2.0)):
        offset = rng.normal(size=(worlds + 1, 1, cases))
        luck = noise * rng.normal(size=(1, runs + 1, cases))  # that all worlds share
        effects = 5.0 + offset + luck
        truth = 5.0 + luck[0, 0]
        low, high = likely(effects[1:, 1:])
        assert 0.87 < ((truth >= low) & (truth <= high)).mean() < 0.93
        pooled = effects[1:, 1:].reshape(1, -1, cases)  # as if all were one world's
        low, high = likely(pooled)
        assert not 0.87 < ((truth >= low) & (truth <= high)).mean() < 0.93


def test_worlds_that_disagree_widen_the_bounds(world):
    stiffer = World(loaded_without_digest(OLD_MODEL))
    with torch.no_grad():
        for weight in stiffer.model.parameters():
            weight.mul_(1.02)
    asked = molecule("H2O"), "2fs", [MassChange([1], "2.014 u")]
    settings = {"temperature": "300K", "dt": "0.2fs", "seeds": 3}
    same = world.what_if(*asked, others=[world], **settings)
    assert "3 runs in each of 2 worlds" in repr(same)
    np.testing.assert_array_equal(same.parting[:3], same.parting[3:])
    other = world.what_if(*asked, others=[stiffer], **settings)
    agreed, doubted = same.effect(speed), other.effect(speed)
    assert doubted.high[-1] - doubted.low[-1] > 1.5 * (agreed.high[-1] - agreed.low[-1])


def test_worlds_of_other_units_are_not_asked_together(world):
    class Reduced(World):
        units = REDUCED

    reduced = Reduced(loaded_without_digest(OLD_MODEL))
    with pytest.raises(ValueError, match="molecular and reduced"):
        world.what_if(molecule("H2O"), "1fs", [], others=[reduced])


def test_what_cannot_be_done_is_told(world):
    with pytest.raises(ValueError, match="particle 7"):
        world.what_if(molecule("H2O"), "1fs", [Frozen([7])])
    with pytest.raises(ValueError, match="seeds"):
        world.what_if(molecule("H2O"), "1fs", [], seeds=0)
    state = State.from_ase(molecule("H2O"), torch.float32)
    world.what_if(state, "1fs", [Frozen([0])], seeds=1)
    assert "work" not in state
