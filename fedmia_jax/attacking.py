"""Fitting attacks on shadows and scoring every snapshot, for many runs at once."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fedmia_jax import errors, model, shadow, signals, types, workload
from fedmia_jax.attacks import contract
from fedmia_jax.data import pools

MOST_GAIN = 0.02  # accuracy that the second half of fitting may bring to an attack that has converged
RECORD_BLOCK = 4096  # records whose logits are in memory at once when scoring
Fitted = dict[str, Any]  # fitted attacks by name, as `contract.Attack.fit` returns them


def fit(context: workload.Context, shadows: types.Params, *, per_snapshot: bool) -> Fitted:
    """Fits every attack on the shadows of each run.

    With `per_snapshot` the shadows are federations: the attack on snapshot CiNj is fitted on their snapshots CiNj,
    members being the records of their node j, which had just trained.

    Args:
      context: runs, records and settings.
      shadows: parameters with leading axes [R * J], or [R * J, C, N] with `per_snapshot`.
      per_snapshot: fit one attack for every snapshot.

    Returns:
      Fitted attacks by name, leaves [R, T, ...]; T is 1 without `per_snapshot`.
    """
    count, num_runs = context.settings.shadow.count, len(context.runs)
    made = context.attacks()
    read = signals.make_signals(model.make_apply(context.module))

    def fit_one(shared, one):
        params, rows, membership, weights, key = one
        seen = jax.lax.map(lambda pair: read(pair[0], shared, pair[1]), (params, rows))
        return {name: attack.fit(key, seen, membership, weights) for name, attack in made.items()}

    fit_many = shadow.make_parallel(fit_one)
    shadows = jax.tree.map(
        lambda leaf: leaf.reshape(num_runs, count, -1, *leaf.shape[3 if per_snapshot else 1 :]), shadows
    )
    snapshots = range(jax.tree.leaves(shadows)[0].shape[2]) if per_snapshot else range(1)
    parts = []
    with context.stage(f"fitting attacks: {', '.join(made)}", total=len(snapshots)) as advance:
        for t in snapshots:
            params = jax.tree.map(lambda leaf, t=t: leaf[:, :, t], shadows)
            node = t % context.settings.federation.nodes if per_snapshot else None
            known = _shadow_records(context.runs, node=node)
            keys = jax.vmap(lambda key, t=t: jax.random.fold_in(key, t))(context.keys(pools.Purpose.ATTACK))
            parts.append(jax.device_get(fit_many(context.records, (params, *known, keys))))
            advance(1)
    fitted = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *parts)
    for name, attack in made.items():
        _check(context, name, np.asarray(attack.curve(fitted[name])), fitted[name])
    return fitted


def _check(context: workload.Context, name: str, curve: np.ndarray, fitted: Fitted) -> None:
    """Raises where an attack is not finite, and warns where it has not converged."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted)):
        rate = context.settings.attack.learning_rate
        raise errors.InputError(f"attack.learning_rate={rate:g}: fitting attack {name} went non-finite; lower it")
    gain = contract.gain_at_end(curve)
    context.workdir.log(attack=name, held_out_accuracy=float(curve[..., -1].mean()), gain_at_end=gain)
    if gain > MOST_GAIN:
        context.show.warn(
            f"attack {name} has not converged: the second half of fitting still brought {gain:.3f} of accuracy on "
            "held-out shadows; raise attack.epochs, or leakage is understated"
        )


def _shadow_records(group: Sequence[workload.Run], *, node: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, membership and weights of what each run's shadows are asked about, [R, J, m]: in, out, padding.

    Members are all training records of a shadow, or those of one node of a shadow federation.
    """
    members = [run.split.members for run in group]
    if node is not None:
        dealt = [[workload.shadow_shards(run, row) for row in run.split.members] for run in group]
        members = [np.stack([item.indices[node][item.mask[node]] for item in row]) for row in dealt]
    lengths = np.array(
        [part.shape[1] + run.split.non_members.shape[1] for run, part in zip(group, members, strict=True)]
    )
    longest = int(lengths.max())
    shape = (len(group), group[0].settings.shadow.count, longest)
    rows, slots = np.zeros(shape, np.int32), np.arange(longest)
    for index, (run, part) in enumerate(zip(group, members, strict=True)):
        rows[index, :, : lengths[index]] = np.concatenate([part, run.split.non_members], axis=1)
    sizes = np.array([part.shape[1] for part in members])
    membership = np.broadcast_to((slots < sizes[:, None])[:, None], shape)
    return rows, membership, np.broadcast_to((slots < lengths[:, None])[:, None], shape).astype(np.float32)


def score(context: workload.Context, snapshots: types.Params, fitted: Fitted) -> dict[str, Any]:
    """Scores every record at every snapshot, once, with every attack.

    Args:
      context: runs, records and settings.
      snapshots: parameters, leaves [R, 1 + T, ...], see `line_up`.
      fitted: fitted attacks by name, leaves [R, 1 + T, ...].

    Returns:
      `correct` bool[R, 1 + T, M], whether the target's answer is right; `scores` f32[R, 1 + T, M] and `threshold`
      f32[R, 1 + T] by attack. Records are those of `Run.scored`.
    """
    made = context.attacks()
    read = signals.make_signals(model.make_apply(context.module))

    def score_snapshot(shared, rows, params, fitted):
        def record(row):
            seen = read(params, shared, row[None])
            return signals.correct(seen)[0], {name: made[name].score(fitted[name], seen)[0] for name in made}

        right, scores = jax.lax.map(record, rows, batch_size=RECORD_BLOCK)
        return {
            "correct": right,
            "scores": scores,
            "threshold": {name: made[name].threshold(fitted[name]) for name in made},
        }

    def score_one(shared, one):
        rows, snapshots, fitted = one
        return jax.lax.map(lambda pair: score_snapshot(shared, rows, *pair), (snapshots, fitted))

    rows = np.stack([run.scored for run in context.runs])
    number = jax.tree.leaves(snapshots)[0].shape[1]
    with context.stage(f"scoring {number} snapshots x {rows.shape[1]:,} records"):
        return jax.device_get(shadow.make_parallel(score_one)(context.records, (rows, snapshots, fitted)))
