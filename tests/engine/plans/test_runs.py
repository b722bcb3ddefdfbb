"""What there is to run: options as the science reads them, orders, what points share, and what is refused."""

import numpy as np
import pytest

from fedmia_jax import attacks, defenses, errors, randomness
from fedmia_jax.config import parsing, sweeps
from fedmia_jax.data import references
from fedmia_jax.engine.plans import points, runs
from fedmia_jax.learning import networks, training
from fedmia_jax.protocols import contract, sequential

SMALL = {
    "data": {"num_records": 400, "num_features": 12, "num_classes": 4, "num_federation": 120, "num_test": 100},
    "federation": {"nodes": 3, "cycles": 2, "local_epochs": 4},
    "shadow": {"count": 2},
}


def plans(**values):
    """The plans of `SMALL` with other values, by dotted name with double underscores."""
    flat = {name.replace("__", "."): value for name, value in values.items()}
    return points.Plans(parsing.from_flat(parsing.flat(SMALL) | flat))


def prepare(sweep=None, **values):
    """Runs of a sweep over `SMALL`."""
    return runs.prepare(sweeps.expand({**parsing.nest(parsing.flat(SMALL) | values), "sweep": sweep}).points)


def test_every_part_of_the_science_reads_its_own_options():
    made = plans(
        model__hidden=9, training__optimizer="sgd", federation__carry_optimizer_state=True, shadow__epochs=7,
        attack__names=("network", "loss", "lira_online"), shadow__federations=8,
    )  # fmt: skip
    assert made.network == networks.Options(hidden=9)
    assert made.training == training.Options(optimizer="sgd")
    assert made.rounds == contract.Options(nodes=3, cycles=2, local_epochs=4)
    assert made.protocol is sequential.SEQUENTIAL
    assert made.protocol_options == sequential.Options(carry_optimizer_state=True)
    assert made.references == references.Options(federations=8)
    assert made.shadows.epochs == 7
    assert made.model_attacks.names == ("network", "loss")
    assert made.reference_attacks.names == ("lira_online",)
    assert made.model_attacks == attacks.choose(("network", "loss"), made.settings.group("attack"))
    assert made.defences == defenses.Chosen()


def test_the_baseline_trains_as_long_as_a_visit_unless_told_otherwise():
    assert plans().central_epochs == 4
    assert plans(federation__centralised_epochs=9).central_epochs == 9


def test_traced_numbers_are_stacked_by_run():
    every_run = prepare({"training.learning_rate": [0.1, 0.2], "model.dropout_rate": [0.0, 0.5]})
    hyper = runs.hyper(every_run)
    np.testing.assert_array_equal(hyper.learning_rate, np.float32([0.1, 0.1, 0.2, 0.2]))
    np.testing.assert_array_equal(hyper.dropout_rate, np.float32([0.0, 0.5, 0.0, 0.5]))
    assert hyper.levels == ()
    assert len({run.learning for run in every_run}) == 1  # they share a program


def test_levels_of_defences_are_traced_and_decide_no_program():
    every_run = prepare({"defense.toy_shift": [0.0, 0.25]}, **{"defense.names": ("toys.defense:SHIFT",)})
    hyper = runs.hyper(every_run)
    np.testing.assert_array_equal(hyper.levels[0]["toy_shift"], np.float32([0.0, 0.25]))
    assert len({run.learning for run in every_run}) == 1
    assert every_run[0].learning != prepare()[0].learning


def test_a_fixed_order_is_cyclic():
    made = plans()
    np.testing.assert_array_equal(made.order(), [[0, 1, 2]] * 2)
    assert [made.schedule().label(snapshot) for snapshot in range(6)] == [
        "C1N1",
        "C1N2",
        "C1N3",
        "C2N1",
        "C2N2",
        "C2N3",
    ]
    assert made.snapshots_per_cycle == 3
    averaging = plans(federation__kind="toys.protocol:MEAN")
    assert averaging.snapshots_per_cycle == 4
    assert averaging.schedule().label(3) == "C1"


def test_a_random_order_depends_on_the_seed_and_is_everybodys():
    def order(**values):
        return plans(federation__order="random", federation__cycles=8, **values).order()

    generator = randomness.make_generator(0, 0, randomness.Purpose.ORDER)
    np.testing.assert_array_equal(order(), contract.draw_order("random", generator, nodes=3, cycles=8))
    np.testing.assert_array_equal(order(), order(training__learning_rate=0.5, shadow__count=5))
    assert not np.array_equal(order(), order(seed=1))
    first, second = prepare(**{"federation.order": "random", "replicates": 2})
    assert first.schedule is second.schedule is first.plans.schedule(reference=3)


def test_orders_of_their_own_come_from_fixed_indices():
    made = plans(federation__order="random", federation__cycles=8, federation__order_shared=False)
    orders = [
        made.order(0),
        made.order(1),
        made.order(reference=0),
        made.order(reference=1),
        made.order(5, reference=0),
    ]
    assert len({order.tobytes() for order in orders}) == 4  # a reference is the same for every replicate
    for number, drawn_by in enumerate((0, 1, references.FIRST_REFERENCE, references.FIRST_REFERENCE + 1)):
        generator = randomness.make_generator(0, drawn_by, randomness.Purpose.ORDER)
        expected = contract.draw_order("random", generator, nodes=3, cycles=8)
        np.testing.assert_array_equal(orders[number], expected)
    np.testing.assert_array_equal(made.schedule(reference=1).trainer, orders[3].reshape(-1))


def test_points_that_draw_alike_share_their_records():
    """Other nodes are dealt the same pools otherwise; other seeds draw others."""
    first, second, third = prepare([{"federation.nodes": n, "seed": s} for n, s in ((3, 0), (4, 0), (3, 1))])
    assert first.dataset is second.dataset is third.dataset
    np.testing.assert_array_equal(first.dealt.federation, second.dealt.federation)
    np.testing.assert_array_equal(first.split.members, second.split.members)
    assert (len(first.shards.sizes), len(second.shards.sizes)) == (3, 4)
    assert not np.array_equal(first.dealt.federation, third.dealt.federation)
    same = prepare({"training.learning_rate": [0.1, 0.2]})
    assert same[0].shards is same[1].shards
    np.testing.assert_array_equal(same[0].shards.indices, first.shards.indices)


def test_owners_are_nodes_for_their_records_and_nobody_for_the_test_pool():
    (run,) = prepare()
    np.testing.assert_array_equal(run.scored, np.concatenate([run.dealt.federation, run.dealt.test]))
    for row, owner in zip(run.scored, run.owners, strict=True):
        holders = [node for node in range(3) if row in run.shards.indices[node][run.shards.mask[node]]]
        assert holders == ([] if owner == -1 else [owner])


def test_owners_in_references_are_their_nodes():
    (run,) = prepare(**{"shadow.federations": 8, "data.num_federation": 60, "data.num_test": 60})
    assert run.reference_owners.shape == (8, len(run.scored)) == (8, 120)
    np.testing.assert_array_equal((run.reference_owners >= 0).sum(axis=1), 60)
    for owners, shards in zip(run.reference_owners, run.audit.references, strict=True):
        for node in range(3):
            held = shards.indices[node][shards.mask[node]]
            np.testing.assert_array_equal(np.sort(run.scored[owners == node]), np.sort(held))


REFUSED = [
    ({"data__name": "purchase"}, "data.name='purchase': must be one of synthetic"),
    ({"model__name": "cnn"}, "model.name='cnn': must be one of mlp"),
    ({"federation__kind": "ring"}, "federation.kind='ring': must be one of sequential"),
    ({"defense__names": ("toys.defense:ROUNDING",)}, "defense.names='toys.defense:ROUNDING': acts on what an out"),
    (
        {"defense__names": ("rounding",), "shadow__federations": 8, "shadow__kind": "federated"},
        "defense.names='rounding': acts on what an outsider is answered, which shadow.kind='federated' cannot honour",
    ),
    ({"attack__names": ("lira_online",)}, "attack.names=('lira_online',): name one on one model, such as network"),
    ({"attack__names": ("loss", "lira_online")}, "shadow.federations=0: attack.names='lira_online' compares with"),
    ({"attack__views": ()}, "attack.views=(): name a view; "),
    ({"attack__views": ("insider:9",)}, "attack.views='insider:9': expected one number between 1 and 3"),
    (
        {"federation__order": "random_no_repeat", "federation__nodes": 1},
        "federation.order='random_no_repeat': federation.nodes=1 would train twice in a row; take two nodes",
    ),
    (
        {"attack__views": ("insider:2_unordered",), "federation__order": "random"},
        "attack.views='insider:2_unordered': federation.order='random' of 3 nodes with federation.order_shared=True is",
    ),
    (
        {
            "attack__views": ("coordinator_unordered",),
            "federation__order": "random",
            "federation__order_shared": False,
            "shadow__kind": "federated",
        },
        "attack.views='coordinator_unordered': shadow.kind='federated' trains shadows in the target's order",
    ),
]


@pytest.mark.parametrize(("values", "line"), REFUSED, ids=[" ".join(values) for values, _ in REFUSED])
def test_what_cannot_be_run_is_refused_before_records_are_read(values, line):
    with pytest.raises(errors.InputError) as caught:
        points.check(plans(**values))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("cycles", [0, 2])
def test_the_usual_settings_are_not_refused(cycles):
    points.check(plans(federation__cycles=cycles))


def test_without_cycles_there_is_no_snapshot():
    made = plans(federation__cycles=0)
    assert made.order().shape == (0, 3)
    assert len(made.schedule()) == made.snapshots_per_cycle == 0
