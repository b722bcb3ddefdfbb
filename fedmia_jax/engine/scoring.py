"""Attacks on many runs at once: fitted on the shadows of each, and read off any number of snapshots."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from fedmia_jax import attacks, defenses, types
from fedmia_jax.attacks import signals
from fedmia_jax.defenses import contract as defenses_contract
from fedmia_jax.engine import parallel
from fedmia_jax.learning import networks

NOTHING = defenses.Chosen()
RECORD_BLOCK = 4096  # records whose logits are in memory at once when scoring


@functools.cache
def make_fit(
    module: nn.Module,
    chosen: attacks.Chosen,
    *,
    num_classes: int,
    devices: tuple[jax.Device, ...],
    answered_by: defenses.Chosen = NOTHING,
) -> Callable[..., Any]:
    """Builds the fitting of all attacks for R adversaries at once.

    Args:
      module: the network that travels.
      chosen: the attacks on one model.
      num_classes: K.
      devices: where R is split over.
      answered_by: defences through which the adversary reads the models; participants read them as they are.

    Returns:
      `fit(records, (params, rows, membership, weights, keys, levels)) -> fitted` where leaves lead with [R], parameters
      with [R, J], and rows i32, membership bool and weights f32 are [R, J, m]; fitted attacks by name, leaves
      [R, ...].
    """
    made = attacks.make_model_attacks(chosen, num_classes=num_classes)
    read = _make_read(module, answered_by)

    def fit_adversary(records: types.Records, inputs: tuple[Any, ...]) -> dict[str, Any]:
        params, rows, membership, weights, key, levels = inputs
        answers = jax.lax.map(lambda pair: read(pair[0], records, pair[1], levels), (params, rows))
        return {name: attack.fit(key, answers, membership, weights) for name, attack in made.items()}

    return parallel.make_parallel(fit_adversary, devices=devices)


@functools.cache
def make_score(
    module: nn.Module,
    readers: tuple[attacks.Chosen, ...],
    *,
    num_classes: int,
    devices: tuple[jax.Device, ...],
    kept: tuple[signals.Signal, ...] = (),
    answered_by: defenses.Chosen = NOTHING,
) -> Callable[..., Any]:
    """Builds the scoring of every record by every attack at some snapshots of S models.

    Args:
      module: the network that travels.
      readers: the attacks of each adversary that reads the snapshots.
      num_classes: K.
      devices: where S is split over.
      kept: signals of every record that are kept as well.
      answered_by: defences through which the snapshots are read.

    Returns:
      `score(records, (rows i32[S, M], snapshots, fitted, levels)) -> scored`, where snapshots lead with [S, P] and
      `fitted` is a mapping of reader's number to fitted attacks with leaves [S, P, ...]. Scored are `correct`
      bool[S, P, M], whether the model's answer is right, by reader's number `scores` f32[S, P, M] and `threshold`
      f32[S, P] by attack, and `signals` f32[S, P, M] by name where some are kept.
    """
    made = {
        str(number): attacks.make_model_attacks(reader, num_classes=num_classes)
        for number, reader in enumerate(readers)
    }
    read = _make_read(module, answered_by)

    def score_snapshot(
        records: types.Records, rows: jax.Array, levels: Any, params: types.Params, fitted: Any
    ) -> dict[str, Any]:
        def score_record(row: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
            answer = read(params, records, row[None], levels)
            scores = {
                number: {name: attack.score(fitted[number][name], answer)[0] for name, attack in of_reader.items()}
                for number, of_reader in made.items()
            }
            common: dict[str, Any] = {"correct": signals.correct(answer)[0]}
            if kept:
                common["signals"] = {signal.name: signal.read(answer)[0] for signal in kept}
            return common, scores

        common, scores = jax.lax.map(score_record, rows, batch_size=RECORD_BLOCK)
        thresholds = {
            number: {name: attack.threshold(fitted[number][name]) for name, attack in of_reader.items()}
            for number, of_reader in made.items()
        }
        return common | {number: {"scores": scores[number], "threshold": thresholds[number]} for number in made}

    def score_model(records: types.Records, inputs: tuple[Any, ...]) -> dict[str, Any]:
        rows, snapshots, fitted, levels = inputs
        return jax.lax.map(lambda pair: score_snapshot(records, rows, levels, *pair), (snapshots, fitted))

    return parallel.make_parallel(score_model, devices=devices)


def _make_read(module: nn.Module, answered_by: defenses.Chosen) -> Callable[..., types.Signals]:
    """`read(params, records, rows, levels) -> Signals`, as defences let somebody read a model."""
    read = signals.make_signals(networks.make_apply(module))
    answer = defenses_contract.make_answer(answered_by.make())

    def read_answers(params: types.Params, records: types.Records, rows: jax.Array, levels: Any) -> types.Signals:
        plain = read(params, records, rows)
        return types.Signals(answer(plain.logits, levels), plain.labels)

    return read_answers


def fit_nbytes(*, num_classes: int, num_features: int, num_shadows: int, num_records: int) -> int:
    """Returns the memory of fitting one adversary's attack, in bytes: logits, probabilities, inputs and their copies.

    Args:
      num_classes: K.
      num_features: D; the records of one shadow are read at a time.
      num_shadows: J.
      num_records: m, records that each shadow is asked about.
    """
    return 4 * num_records * (8 * num_shadows * num_classes + 2 * num_features)


def shadow_records(
    members: Sequence[np.ndarray], non_members: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts what each adversary's shadows are asked about into one padded shape.

    Args:
      members: i32[J, n_in] of each of R adversaries, rows that a shadow trained on.
      non_members: i32[J, n_out] of each, rows that it did not.

    Returns:
      Rows i32, membership bool and weights f32 (0 for padding), each [R, J, m].
    """
    lengths = np.array([inside.shape[1] + out.shape[1] for inside, out in zip(members, non_members, strict=True)])
    shape = (len(members), len(members[0]), int(lengths.max()))
    rows, slots = np.zeros(shape, np.int32), np.arange(shape[2])
    for index, (inside, out) in enumerate(zip(members, non_members, strict=True)):
        rows[index, :, : lengths[index]] = np.concatenate([inside, out], axis=1)
    sizes = np.array([inside.shape[1] for inside in members])
    membership = np.broadcast_to((slots < sizes[:, None])[:, None], shape)
    return rows, membership, np.broadcast_to((slots < lengths[:, None])[:, None], shape).astype(np.float32)


def curves(chosen: attacks.Chosen, fitted: Mapping[str, Any], *, num_classes: int) -> dict[str, np.ndarray]:
    """Returns the accuracy on held-out shadows in the course of fitting, f32[..., E] by attack."""
    made = attacks.make_model_attacks(chosen, num_classes=num_classes)
    return {name: np.asarray(attack.curve(fitted[name])) for name, attack in made.items()}
