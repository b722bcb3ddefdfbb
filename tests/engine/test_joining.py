"""Models of several numbers of classes by one program: what each would be by its own."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from fedmia_jax import defenses, types
from fedmia_jax.engine import chunks, joining, programs
from fedmia_jax.learning import networks, training
from fedmia_jax.protocols import sequential
from fedmia_jax.storage import artifacts

CLASSES, NUM_MODELS, SLOTS, NODES = (2, 4, 3), 2, 12, 3
NEAR = {"rtol": 1e-5, "atol": 1e-6}
ONE = {"devices": tuple(jax.devices()[:1])}
SWEPT = {
    "data": {"num_records": 500, "num_features": 20, "num_federation": 121, "num_test": 120},
    "model": {"hidden": 8},
    "training": {"learning_rate": 0.01},
    "federation": {"nodes": 2, "cycles": 2, "local_epochs": 3},
    "shadow": {"count": 2},
    "attack": {"hidden": 4, "epochs": 3, "batch_size": 64},
    "sweep": {"data.num_classes": [3, 5]},
}


def learning_of(num_classes, **steps):
    """A network of so many classes, and how it is trained."""
    steps = training.Options(**{"batch_size": 5, "learning_rate": 0.05} | steps)
    return programs.Learning(networks.Mlp(num_classes, 8), steps, defenses.Chosen(), 20)


def make(kind, num_classes, devices=1, optimizer="adam"):
    """Programs of one protocol, or of central training."""
    learning = learning_of(num_classes, optimizer=optimizer)
    if kind == "central":
        return programs.make_train(learning, devices=tuple(jax.devices()[:devices]))
    return programs.make_federate(learning, kind, sequential.Options(carry_optimizer_state=kind == "sequential"), **ONE)


@pytest.fixture(scope="module")
def calls(toy):
    """`calls(kind, optimizer)`: the arguments of a stretch of training by number of classes, each with own labels."""

    def of_kind(kind, optimizer="adam"):
        made = {}
        for number, num_classes in enumerate(CLASSES):
            rng = np.random.default_rng(number)
            labels = jnp.asarray(rng.integers(num_classes, size=len(toy.labels)), jnp.int32)
            shape = (NUM_MODELS, SLOTS) if kind == "central" else (NUM_MODELS, NODES, SLOTS // NODES)
            rows = rng.integers(len(toy.labels), size=shape).astype(np.int32)
            keys = jax.random.split(jax.random.key(number), NUM_MODELS)
            hyper = types.Hyper(np.float32([0.05, 0.1]), np.float32([0.0, 0.5]))
            order = None if kind == "central" else np.tile(np.arange(NODES, dtype=np.int32), (NUM_MODELS, 1, 1))
            models = programs.Models(types.Shard(rows, np.ones(rows.shape, bool)), hyper, keys, order)
            step = (0, 3) if kind == "central" else (2, 0, True)
            trainer = make(kind, num_classes, optimizer=optimizer)
            records = types.Records(toy.records.features, labels)
            made[num_classes] = joining.Call(trainer, records, trainer.start(keys), models, step)
        return made

    return of_kind


@pytest.mark.parametrize("kind", ["central", "sequential", "fedavg"])
def test_together_they_train_as_each_by_itself(calls, equal, kind):
    asked = calls(kind)
    bundle = chunks.Bundle(num_classes=6, size=8, num_chunks=4)  # as if one were not there
    answers = joining.run_as_one(list(asked.values()), bundle)
    for call, answer in zip(asked.values(), answers, strict=True):
        alone = call.trainer.advance(*call[1:])
        equal(jax.device_get(answer), jax.device_get(alone), **NEAR)


@pytest.mark.parametrize(("optimizer", "batch_size"), [("adam", 5), ("sgd", 5), ("sgd", 1)])
def test_what_is_filled_up_stays_as_it_is(calls, optimizer, batch_size):
    """Adam moves nothing of which the gradient is zero, nor does descent."""
    (call, *_) = calls("central").values()
    own, wide = (
        programs.make_train(learning_of(num_classes, optimizer=optimizer, batch_size=batch_size), **ONE)
        for num_classes in (CLASSES[0], 6)
    )
    asked = call._replace(trainer=own, state=own.start(call.models.key))
    state, models, records = joining.stack([asked], wide, chunks.Bundle(6, NUM_MODELS, 1))
    state, _ = wide.advance(records, state, models, call.step)
    last = state.params["Dense_1"]
    assert (last["kernel"][..., : CLASSES[0]] != 0).all()
    assert (last["kernel"][..., CLASSES[0] :] == 0).all()
    assert (last["bias"][..., CLASSES[0] :] == joining.NEVER).all()


def test_who_is_left_of_a_bundle_ends_as_if_all_were_there(calls, equal, compilations):
    """By the same program."""
    asked, bundle = calls("central"), chunks.Bundle(num_classes=4, size=6, num_chunks=3)
    whole = joining.run_as_one(list(asked.values()), bundle)
    with compilations() as names:
        (alone,) = joining.run_as_one([asked[4]], bundle)
    assert not [name for name in names if "advance_model" in name]
    equal(jax.device_get(alone), jax.device_get(whole[1]))


def test_several_devices_train_a_bundle_as_one_does(calls, equal):
    """Plain descent: Adam makes more of how a small gradient was rounded than these bounds allow."""
    asked, bundle = list(calls("central", "sgd").values()), chunks.Bundle(num_classes=4, size=6, num_chunks=3)
    two = [
        call._replace(trainer=make("central", number, devices=2, optimizer="sgd"))
        for number, call in zip(CLASSES, asked, strict=True)
    ]
    equal(jax.device_get(joining.run_as_one(two, bundle)), jax.device_get(joining.run_as_one(asked, bundle)), **NEAR)


def meet(works):
    """Calls functions of `join` in threads that meet; returns what each returns, or the exception."""
    meeting, ends = joining.Meeting(chunks.Bundle(num_classes=4, size=6, num_chunks=3), len(works)), {}

    def run(number, work):
        try:
            ends[number] = work(meeting.join)
        except BaseException as error:
            ends[number] = error
        finally:
            meeting.leave()

    threads = [threading.Thread(target=run, args=(number, work)) for number, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return [ends[number] for number in range(len(works))]


def test_whoever_is_behind_is_caught_up_with(calls, monkeypatch):
    """One begins later, where it was interrupted; one ends early; one fails."""
    together, run_as_one = [], joining.run_as_one

    def spy(calls, bundle):
        assert jax.config.jax_default_matmul_precision == "high"
        together.append((calls[0].step, [call.trainer.learning.num_classes for call in calls]))
        return run_as_one(calls, bundle)

    monkeypatch.setattr(joining, "run_as_one", spy)

    def work(call, steps):
        def through(join):
            trainer, state = join(call.trainer), call.state
            with jax.default_matmul_precision("high"):  # of this thread, as long as its chunk is computed
                for step in steps:
                    state, finite = trainer.advance(call.records, state, call.models, step)
            return bool(finite.all())

        return through

    asked = calls("central")
    (first, second, third), stretches = asked.values(), [(0, 1), (1, 2), (2, 3)]
    broken = third._replace(records=types.Records(third.records.features, third.records.labels[1:]))
    ends = meet([work(first, stretches), work(second, stretches[1:]), work(third, stretches[:2])])
    assert ends == [True, True, True]
    assert together == [((0, 1), [2, 3]), ((1, 2), [2, 3, 4]), ((2, 3), [2, 4])]
    ends = meet([work(first, stretches[:1]), work(broken, stretches[:1])])
    assert all(isinstance(end, Exception) for end in ends)  # nobody waits for ever


def test_who_may_train_beside_more_classes():
    assert learning_of(3).may_join
    chosen = defenses.choose(("weight_decay",), {"weight_decay": 0.1})
    assert not dataclasses.replace(learning_of(3), defences=chosen.static).may_join

    class Centred(networks.Mlp):
        def __call__(self, features, **options):
            answers = super().__call__(features, **options)
            return answers - answers.mean(axis=-1, keepdims=True)

    assert networks.answer_bias(Centred(3, 8)) is None, "what it inherits belongs to another network"


@pytest.fixture(scope="module")
def swept(run_sweep, compilations, tmp_path_factory):
    """A sweep over classes as one bundle a stage, and by a program each: folder, table and programs of either."""
    ways = []
    for bundles in (True, False):
        folder = tmp_path_factory.mktemp("sweep")
        with compilations() as names:
            _, table = run_sweep(SWEPT, folder, bundles=bundles, keep_models=True, **ONE)
        ways.append((folder, table, [name for name in names if "advance_model" in name]))
    return ways


def test_a_sweep_over_classes_ends_the_same(swept):
    """Scores of a few records may change their order with the last bit."""
    (_, together, _), (_, apart, _) = swept
    numbers = pl.selectors.float()
    assert together.drop(numbers).equals(apart.drop(numbers))
    np.testing.assert_allclose(
        together.select(numbers).to_numpy().astype(float), apart.select(numbers).to_numpy().astype(float), atol=0.02
    )


def test_every_model_of_a_sweep_is_its_own(swept, equal):
    kept = [artifacts.Artifacts(folder / "artifacts") for folder, *_ in swept]
    seen = set()
    for unit, (path, _) in kept[0].index.items():
        for piece in sorted(path.iterdir()):
            if piece.is_dir() and "params" in (read := kept[0].read(unit, piece.name)):
                equal(read["params"], kept[1].read(unit, piece.name)["params"], **NEAR)
                seen.add((piece.name, read["params"]["Dense_1"]["bias"].shape[-1]))
    assert seen == {(piece, classes) for piece in ("e3", "c1", "c2") for classes in (3, 5)}


def test_a_stage_is_one_program_compiled_once(swept):
    (*_, together), (*_, apart) = swept
    assert len(together) == 2
    assert len(apart) == 2 * len(SWEPT["sweep"]["data.num_classes"])


@pytest.mark.parametrize("stage", ["e3", "c1"])
def test_a_bundle_that_was_interrupted_ends_bit_equal(swept, run_sweep, monkeypatch, tmp_path, stage):
    """One chunk of it dies as it keeps a piece; who is left goes on by itself, in the places of all."""
    (_, whole, _), _ = swept
    write, run_as_one, dead, together = artifacts.Draft.write, joining.run_as_one, [], []

    def dying(draft, piece, tree):
        if piece == stage and not dead:
            dead.append(draft.path)
            raise RuntimeError("killed")
        write(draft, piece, tree)

    def spy(calls, bundle):
        together.append(len(calls))
        return run_as_one(calls, bundle)

    monkeypatch.setattr(artifacts.Draft, "write", dying)
    monkeypatch.setattr(joining, "run_as_one", spy)
    with pytest.raises(RuntimeError, match="killed"):
        run_sweep(SWEPT, tmp_path, bundles=True, keep_models=True, **ONE)
    _, again = run_sweep(SWEPT, tmp_path, bundles=True, keep_models=True, **ONE)
    assert 1 in together
    assert again.equals(whole)


def test_more_replicates_go_on_from_fewer(run_sweep, tmp_path):
    """Those that are new train beside each other, as the first ones did."""
    _, whole = run_sweep(SWEPT | {"replicates": 2}, tmp_path / "whole", bundles=True, **ONE)
    run_sweep(SWEPT, tmp_path / "run", bundles=True, **ONE)
    _, more = run_sweep(SWEPT | {"replicates": 2}, tmp_path / "run", bundles=True, **ONE)
    numbers = pl.selectors.float()
    assert more.drop(numbers).equals(whole.drop(numbers))
    np.testing.assert_allclose(
        more.select(numbers).to_numpy().astype(float), whole.select(numbers).to_numpy().astype(float), atol=0.02
    )
