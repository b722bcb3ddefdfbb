"""Clipping and noise of DP training: levels, level zero, one program for all; the epsilon that is stated."""

import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dp_accounting import pld

from fedmia_jax import defenses, errors, types
from fedmia_jax.defenses import contract, dp_training
from fedmia_jax.learning import training

BATCH_SIZE = 8
OPTIMIZERS = ("adam", "sgd")
VALUES = {name: getattr(dp_training.Options(), name) for name in dp_training.Options.__dataclass_fields__}
DEFENDED = defenses.choose(["dp_training"], VALUES).make()


def levels(*, clip=1.0, noise=1.0, dropout_rate=0.5):
    """Numbers of training with these levels."""
    named = dict.fromkeys(DEFENDED.traced[0], np.float32(0)) | {"clip": np.float32(clip)}
    return types.Hyper(np.float32(0.1), np.float32(dropout_rate), ({**named, "noise_multiplier": np.float32(noise)},))


@pytest.fixture(scope="module")
def train(toy):
    """`train(hyper, *, optimizer) -> params` after two epochs on 30 records; compiled once an optimizer."""

    def compile_for(optimizer):
        fit = training.make_fit(toy.apply, optimizer=optimizer, batch_size=BATCH_SIZE, defences=DEFENDED)
        state = start_of(toy, optimizer, DEFENDED)
        shard, keys = jax.tree.map(jnp.asarray, toy.shard(np.arange(30))), (jax.random.key(5), jax.random.key(0))
        return jax.jit(lambda hyper: fit(state, toy.records, shard, hyper, keys[0], (0, 2), keys[1]).params)

    programs = {optimizer: compile_for(optimizer) for optimizer in OPTIMIZERS}
    return lambda hyper, *, optimizer="sgd": jax.device_get(programs[optimizer](hyper))


def start_of(toy, optimizer, defences):
    params = toy.start(jax.random.key(0), optimizer=optimizer).params
    return types.TrainState(params, training.fresh_opt_state(params, optimizer=optimizer, defences=defences))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_clip_and_noise_it_is_the_plain_optimizer_on_the_same_batches(toy, equal, train, optimizer):
    """The sum of each batch over B, as a defence that does nothing but draw batches leaves it, units dropped alike."""
    sampled = contract.Defended((contract.Defense(sampling=VALUES["most_records"]),), ((),))
    fit = training.make_fit(toy.apply, optimizer=optimizer, batch_size=BATCH_SIZE, defences=sampled)
    state, shard = start_of(toy, optimizer, sampled), toy.shard(np.arange(30))
    plain = types.Hyper(np.float32(0.1), np.float32(0.5), ({},))
    expected = jax.jit(fit)(state, toy.records, shard, plain, jax.random.key(5), (0, 2), jax.random.key(0))
    for clip in (np.inf, 1e30):
        equal(train(levels(clip=clip, noise=0), optimizer=optimizer), expected.params, rtol=1e-5, atol=1e-6)


def test_a_grid_of_levels_is_one_program(train, compilations):
    train(levels())
    with compilations() as names:
        ends = [train(levels(clip=clip, noise=noise)) for clip in (0.5, 1.0, 2.0, 4.0) for noise in (0, 0.5, 1, 2, 4)]
    assert names == []
    assert len({end["Dense_0"]["kernel"].tobytes() for end in ends}) == 20


def test_noise_on_the_sum_has_its_stated_deviation(equal):
    """The multiplier times the clip, for every number by itself, and another draw for another step."""
    zeros = {"kernel": jnp.zeros((301, 200)), "bias": jnp.zeros(200), "other": jnp.zeros((301, 200))}
    draw = jax.jit(lambda key, levels: DEFENDED.defences[0].sums(zeros, key, levels))
    noise = draw(jax.random.key(0), levels(clip=0.5, noise=3.0).levels[0])
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(noise)]).astype(np.float64)
    count = len(flat)
    assert abs(flat.mean()) < 5 * 1.5 / np.sqrt(count)
    assert abs(flat.var() / 1.5**2 - 1) < 5 * np.sqrt(2 / count)
    again = draw(jax.random.key(1), levels(clip=0.5, noise=3.0).levels[0])
    for twin in (noise["other"], again["kernel"]):
        correlation = np.corrcoef(np.ravel(noise["kernel"]), np.ravel(twin))[0, 1]
        assert abs(correlation) < 5 / np.sqrt(count / 2)
    equal(draw(jax.random.key(0), levels(clip=np.inf, noise=0).levels[0]), zeros)


def test_the_noise_of_a_step_is_divided_by_the_batch_size(toy):
    """In plain descent: rate times multiplier times clip over B, around the step without noise."""
    step = training.make_step(toy.apply, optimizer="sgd", batch_size=BATCH_SIZE, defences=DEFENDED)
    state = start_of(toy, "sgd", DEFENDED)
    rows, batch = jnp.arange(16), types.Records(toy.records.features[:16], toy.records.labels[:16])

    @jax.jit
    def ends(keys, hyper):
        return jax.vmap(lambda key: step(state, batch, rows, rows < 5, hyper, key, jax.random.key(0)).params)(keys)

    keys = jax.random.split(jax.random.key(0), 200)
    noisy, quiet = (ends(keys, levels(clip=2.0, noise=noise, dropout_rate=0.0)) for noise in (4.0, 0.0))
    moved = jax.tree.map(lambda leaf, twin: np.asarray(leaf - twin, np.float64).ravel(), noisy, quiet)
    flat = np.concatenate(jax.tree.leaves(moved))
    assert abs(flat.std() / (0.1 * 4.0 * 2.0 / BATCH_SIZE) - 1) < 5 / np.sqrt(2 * len(flat))


USE = contract.Use(
    num_features=20, node_sizes=(300, 100, 210), batch_size=10, cycles=3, local_epochs=4, carries_optimizer_state=True
)


def test_the_worst_node_is_stated_over_all_its_visits():
    """Ten batches an epoch, four epochs, three visits, composed: what the library says of truncated batches."""
    (stated,) = dp_training.state(dp_training.Options(noise_multiplier=2.0), USE)
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    event = dp_accounting.dp_event.TruncatedSubsampledGaussianDpEvent(100, 0.1, 20, 2.0)
    assert stated.epsilon == pytest.approx(accountant.compose(event, 120).get_epsilon(1e-5), rel=0.01)
    assert stated.delta == 1e-5
    assert stated.how.startswith("PLD, 3 x 40 steps at 10/100, noise 2; RDP uncut ")


def test_a_target_is_met_by_every_replicate():
    other = contract.Use(**{**vars(USE), "node_sizes": (300, 80, 230)})
    settings = dp_training.Options(target_epsilon=3.0)
    solved = dp_training.Options(**{**vars(settings), **dp_training.solve(settings, [USE, other])})
    epsilons = [dp_training.state(solved, use)[0].epsilon for use in (USE, other)]
    assert 2.95 < max(epsilons) <= 3.0
    assert dp_training.solve(dp_training.Options(), [USE]) == {}


def test_what_has_no_epsilon_is_refused_or_not_stated():
    shuffled = dp_training.Options(batches="shuffled")
    assert dp_training.state(shuffled, USE) == ()
    assert dp_training.make_defense(shuffled).sampling is None
    with pytest.raises(errors.InputError, match=r"^defense.target_epsilon=2.0: no epsilon is stated for defense.batch"):
        dp_training.solve(dp_training.Options(batches="shuffled", target_epsilon=2.0), [USE])
    with pytest.raises(
        errors.InputError, match=r"^training.batch_size=101: .* and a node has 100; use a smaller batch"
    ):
        dp_training.state(dp_training.Options(), contract.Use(**{**vars(USE), "batch_size": 101}))
    assert dp_training.state(dp_training.Options(), contract.Use(**{**vars(USE), "cycles": 0})) == ()
