"""What the hooks of a defence see and do in a step: noise on records, scaled updates, keys."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedmia_jax import types
from fedmia_jax.defenses import contract
from fedmia_jax.learning import training

BATCH_SIZE, ROWS = 8, np.arange(38)
OPTIMIZERS = ("adam", "sgd")


def batch_of(toy, rows):
    """Records by row."""
    return types.Records(toy.records.features[rows], toy.records.labels[rows])


def defended(*defences):
    """Defences with a level `scale` each."""
    return contract.Defended(defences, (("scale",),) * len(defences))


def levels(*scales, dropout_rate=0.5):
    """Numbers of training with these levels."""
    return types.Hyper(np.float32(0.1), np.float32(dropout_rate), tuple({"scale": np.float32(s)} for s in scales))


def step_with(toy, defences, hyper, *, optimizer="sgd", keys=(1, 2)):
    """Parameters after one step from the same start, not jitted."""
    rows = jnp.arange(BATCH_SIZE)
    params = toy.start(jax.random.key(0)).params
    state = types.TrainState(params, training.fresh_opt_state(params, optimizer=optimizer, defences=defences))
    step = training.make_step(toy.apply, optimizer=optimizer, batch_size=6, defences=defences)
    key, record_key = (jax.random.key(seed) for seed in keys)
    return step(state, batch_of(toy, rows), rows, rows < 6, hyper, key, record_key).params


IDENTITIES = {
    "records": lambda batch, rows, record_key, step_key, levels: batch,
    "weights": lambda norms, levels: jnp.ones(norms.shape),
    "sums": lambda sums, key, levels: sums,
    "penalty": lambda logits, labels, levels: 0.0 * logits[:, 0],
    "update": lambda levels: optax.with_extra_args_support(optax.identity()),
    "step": lambda step, params, learning_rate, levels: step,
    "hand_off": lambda received, trained, key, levels: trained,
    "publish": lambda initial, final, key, levels: final,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("names", [*IDENTITIES, tuple(IDENTITIES)], ids=str)
def test_hooks_that_do_nothing_change_nothing(toy, equal, optimizer, names):
    """Bit by bit, but for the rounding of sums that are divided by B, which the mean is taken over here too."""
    names = (names,) if isinstance(names, str) else names
    defences = defended(contract.Defense(**{name: IDENTITIES[name] for name in names}))
    plain = step_with(toy, contract.UNDEFENDED, levels(), optimizer=optimizer)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if {"weights", "sums"} & set(names) else {}
    equal(step_with(toy, defences, levels(1.0), optimizer=optimizer), plain, **tolerance)


def test_an_update_is_scaled_by_its_level_which_is_no_new_program(toy, equal, compilations):
    defences = defended(
        contract.Defense(update=lambda levels: optax.with_extra_args_support(optax.scale(levels["scale"])))
    )
    start = toy.start(jax.random.key(0), optimizer="sgd").params
    plain = jax.tree.map(np.subtract, step_with(toy, contract.UNDEFENDED, levels()), start)
    step = jax.jit(lambda hyper: step_with(toy, defences, hyper))
    step(levels(1.0))
    with compilations() as names:
        ends = {scale: jax.device_get(step(levels(scale))) for scale in (0.0, 0.25, 3.0)}
    assert names == []
    for scale, end in ends.items():
        moved = jax.tree.map(lambda leaf, scale=scale: scale * leaf, plain)
        equal(jax.tree.map(np.subtract, end, start), moved, rtol=1e-3, atol=1e-6)


def test_every_hook_draws_by_itself(toy):
    """Keys of two defences' hooks differ from one another, from step to step, and from those of the units dropped."""
    seen = []

    def sums(sums, key, levels):
        seen.append(key)
        return sums

    def records(batch, rows, record_key, step_key, levels):
        seen.append(step_key)
        return batch

    def update(levels):
        def keep_key(updates, state, params=None, *, key, **extra):
            seen.append(key)
            return updates, state

        return optax.GradientTransformationExtraArgs(lambda params: (), keep_key)

    defences = defended(contract.Defense(sums=sums, update=update), contract.Defense(sums=sums))
    for step in (1, 2):
        step_with(toy, defences, levels(1.0, 1.0), keys=(step, 0))
        seen.append(jax.random.key(step))
    assert len({tuple(jax.random.key_data(key).tolist()) for key in seen}) == len(seen) == 8
    seen.clear()
    step_with(toy, defended(contract.Defense(records=records)), levels(1.0), keys=(1, 0))
    step_with(toy, defended(contract.Defense(records=records)), levels(1.0), keys=(2, 0))
    assert len({tuple(jax.random.key_data(key).tolist()) for key in seen}) == 2


def test_noise_on_records_is_drawn_once_for_a_record(toy, equal):
    """In all steps of all epochs, wherever the shuffle puts it; another record key draws another noise."""
    seen = []

    def records(batch, rows, record_key, step_key, levels):
        noise = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(record_key, row)))(rows)
        jax.debug.callback(lambda *pairs: seen.append(pairs), rows, noise)
        return types.Records(batch.features + levels["scale"] * noise[:, None], batch.labels)

    defences = defended(contract.Defense(records=records))
    params = toy.start(jax.random.key(0), optimizer="sgd").params
    state = types.TrainState(params, training.fresh_opt_state(params, optimizer="sgd", defences=defences))
    fit_fn = jax.jit(training.make_fit(toy.apply, optimizer="sgd", batch_size=BATCH_SIZE, defences=defences))
    drawn = []
    for record_key in (3, 4):
        seen.clear()
        end = fit_fn(
            state, toy.records, toy.shard(ROWS), levels(0.1), jax.random.key(1), (0, 3), jax.random.key(record_key)
        )
        jax.block_until_ready(end)
        jax.effects_barrier()
        assert len(seen) == 3 * 5  # epochs, steps
        of_row = {int(row): set() for row in ROWS}
        for rows, noise in seen:
            for row, draw in zip(rows.tolist(), noise.tolist(), strict=True):
                of_row[row].add(draw)
        assert {len(draws) for draws in of_row.values()} == {1}
        drawn.append({row: draws.pop() for row, draws in of_row.items()})
    assert len(set(drawn[0].values())) == len(ROWS)
    assert not set(drawn[0].values()) & set(drawn[1].values())
