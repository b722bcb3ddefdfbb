"""A frontier is one program under each protocol; levels that do nothing change no bit; the end alone is published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedmia_jax import defenses, types
from fedmia_jax.defenses import hand_off
from fedmia_jax.engine import programs
from fedmia_jax.learning import training
from fedmia_jax.protocols import sequential

NAMES = ("randomised_response", "weight_decay", "label_smoothing", "update_noise", "output_perturbation")
QUIET = {
    "flip_probability": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "update_clip": 1e30, "update_noise": 0.0,
    "output_clip": 1e30, "output_noise": 0.0,
}  # fmt: skip
DELTA = {"delta": 1e-5}  # of what is stated
NUM_POINTS, NODES, SLOTS, CYCLES = 20, 2, 12, 2


@pytest.fixture(scope="module", params=["sequential", "fedavg"])
def federate(toy, request):
    """`federate(grid, *, names) -> (snapshots [S, C, P, ...], initial)`; S points that differ in their levels alone."""
    orders = np.broadcast_to(np.arange(NODES, dtype=np.int32), (NUM_POINTS, 1, NODES))
    rows = np.random.default_rng(0).permutation(len(toy.labels))[: NODES * SLOTS].reshape(NODES, SLOTS)
    shards = types.Shard(*(np.broadcast_to(leaf, (NUM_POINTS, NODES, SLOTS)) for leaf in (np.int32(rows), rows >= 0)))
    keys = jnp.broadcast_to(jax.random.key(5), NUM_POINTS)

    def run(grid, *, names=NAMES):
        chosen = defenses.choose(names, QUIET | DELTA | {"fresh_noise": False})
        learning = programs.Learning(toy.module, training.Options(batch_size=4), chosen.static, 20)
        program = programs.make_federate(
            learning, request.param, sequential.Options(), devices=tuple(jax.devices()[:1])
        )
        levels = tuple(
            {name: np.float32([(QUIET | DELTA | point)[name] for point in grid]) for name in of_defence}
            for of_defence in chosen.levels
        )
        hyper = types.Hyper(np.full(NUM_POINTS, 0.01, np.float32), np.full(NUM_POINTS, 0.5, np.float32), levels)
        models, state, cycles = programs.Models(shards, hyper, keys, orders), program.start(keys), []
        initial = state if request.param == "fedavg" else getattr(state, "params", state)
        for cycle in range(CYCLES):
            final = cycle + 1 == CYCLES
            state, snapshots, finite = program.advance(toy.records, state, models, (1, cycle, final))
            assert bool(np.asarray(finite).all())
            cycles.append(jax.device_get(snapshots))
        return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *cycles), jax.device_get(initial)

    return run


def grid():
    """Twenty points: two without any effect, four of which each defence acts alone, the others all together."""
    alone = [
        {"flip_probability": 0.2},
        {"weight_decay": 1.0},
        {"update_clip": 0.01},
        {"output_clip": 0.01, "output_noise": 3.0},
    ]
    together = [dict.fromkeys(QUIET, 0.02 * (number + 1)) for number in range(NUM_POINTS - 6)]
    return [{}, {"update_clip": 1e20, "output_clip": 1e25}, *alone, *together]


def point(tree, number):
    """One point of a stacked tree."""
    return jax.tree.map(lambda leaf: leaf[number], tree)


def test_a_frontier_is_one_program(federate, equal, compilations):
    snapshots, initial = federate(grid())
    with compilations() as names:
        federate([{"weight_decay": 0.01 * number, "flip_probability": 0.5} for number in range(NUM_POINTS)])
    assert names == []

    quiet, also_quiet, flipped, decayed, clipped, published = (point(snapshots, number) for number in range(6))
    equal(also_quiet, quiet)
    for other in (flipped, decayed, clipped):
        assert all(
            not np.allclose(leaf, twin) for leaf, twin in zip(*map(jax.tree.leaves, (other, quiet)), strict=True)
        )
    first = jax.tree.map(lambda leaf, start: leaf[0, 0] - start, clipped, point(initial, 4))
    norm = np.sqrt(sum(np.sum(leaf.astype(float) ** 2) for leaf in jax.tree.leaves(first)))
    np.testing.assert_allclose(norm, 0.01, rtol=1e-3)

    # Before the end nothing is perturbed, and at the end the last snapshot alone.
    for leaf, twin in zip(*map(jax.tree.leaves, (published, quiet)), strict=True):
        steps = leaf.reshape(-1, *leaf.shape[2:]), twin.reshape(-1, *twin.shape[2:])
        np.testing.assert_array_equal(steps[0][:-1], steps[1][:-1])
    last = jax.tree.map(lambda leaf: leaf[-1, -1], quiet)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), programs.PUBLISH), 2**31 + 4)
    expected = hand_off.perturb(
        jax.tree.map(jnp.asarray, point(initial, 5)),
        jax.tree.map(jnp.asarray, last),
        key,
        clip=0.01,
        noise_multiplier=3.0,
    )
    equal(jax.tree.map(lambda leaf: leaf[-1, -1], published), jax.device_get(expected), rtol=1e-5, atol=1e-6)


def test_quiet_levels_are_no_defence(federate, equal):
    """Another program without a hook, to a millionth for each of twelve steps."""
    snapshots, _ = federate([{}] * NUM_POINTS)
    plain, _ = federate([{}] * NUM_POINTS, names=())
    equal(point(snapshots, 0), point(plain, 0), rtol=0, atol=1e-6 * 12)
