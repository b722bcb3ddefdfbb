"""Chunks that differ in their number of classes alone, trained side by side by one program.

On an accelerator an update of few models takes as long as one of many. Points of a sweep over the number of classes
have programs of their own, though all but the last layer is alike; here their calls meet, and become one call of the
program for the most classes. Each brings parameters that are filled up with zeros, and with a bias that leaves answers
beyond a model's own classes no chance: their slopes are zero, so that nothing of what is filled up moves. It is cut off
again.
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedmia_jax import compilation, types
from fedmia_jax.engine import chunks, programs
from fedmia_jax.learning import networks

NEVER = -1e30  # the bias of an answer that has no chance: its exponential is zero, and it is a finite number


class Call(NamedTuple):
    """What a chunk asks of its program."""

    trainer: programs.Programs
    records: types.Records
    state: Any
    models: programs.Models
    step: tuple[Any, ...]

    def kind(self, num_classes: int) -> Any:
        """What calls must have in common to become one."""
        shapes = tuple(leaf.shape[1:] for leaf in jax.tree.leaves(self.models))
        return self.step, self.trainer.widen(num_classes), shapes


class Meeting:
    """Where the chunks of one bundle meet, each in a thread of its own.

    Args:
      bundle: how large the program is, whoever comes.
      num_chunks: that take part until they leave.
    """

    def __init__(self, bundle: chunks.Bundle, num_chunks: int) -> None:
        self._bundle = bundle
        self._present = num_chunks
        self._waiting: dict[int, Call] = {}
        self._answers: dict[int, Any] = {}
        self._ended = False
        self._changed = threading.Condition()

    def join(self, trainer: programs.Programs) -> programs.Programs:
        """Returns a chunk's programs with every stretch of training in common."""

        def advance(records: types.Records, state: Any, models: programs.Models, step: tuple[Any, ...]) -> Any:
            return self._call(Call(trainer, records, state, models, step))

        return trainer._replace(advance=advance)

    def leave(self) -> None:
        """Says that a chunk has ended, in whatever way."""
        with self._changed:
            self._present -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Says that something has failed; nobody waits any longer for whoever may never come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _call(self, call: Call) -> Any:
        """Waits until the others call or leave; returns what the call's own program would."""
        me = threading.get_ident()
        with self._changed:
            self._waiting[me] = call
            while me not in self._answers:
                if self._ended:
                    raise InterruptedError("work beside this has failed")
                # Here and not in `leave`: products have the precision that is set in the thread that calls.
                if me in self._waiting and len(self._waiting) == self._present:
                    self._answer()
                    self._changed.notify_all()
                else:
                    self._changed.wait()
            answer = self._answers.pop(me)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _answer(self) -> None:
        """Serves those of the waiting who are least far, so that the others are caught up with."""
        served = dict(self._waiting)
        try:
            kinds = {who: call.kind(self._bundle.num_classes) for who, call in self._waiting.items()}
            first = min(kinds.values(), key=lambda kind: kind[0])
            found = {who: call for who, call in self._waiting.items() if kinds[who] == first}
            # In an order of their own, whoever came first: another one would be another program.
            served = dict(sorted(found.items(), key=lambda item: item[1].trainer.learning.num_classes))
            self._answers |= dict(zip(served, run_as_one(list(served.values()), self._bundle), strict=True))
        except BaseException as error:
            self._answers |= dict.fromkeys(served, error)
        for who in served:
            del self._waiting[who]


def alone(trainer: programs.Programs) -> programs.Programs:
    """Returns the programs of a chunk that meets nobody."""
    return trainer


def run_as_one(calls: Sequence[Call], bundle: chunks.Bundle) -> list[tuple[Any, ...]]:
    """Makes one call of several, filled up to the size of the bundle; returns what the program of each would."""
    trainer = calls[0].trainer.widen(bundle.num_classes)
    state, models, records = stack(calls, trainer, bundle)
    result = trainer.advance(records, state, models, calls[0].step)
    sizes = tuple(len(call.models.key) for call in calls)
    shapes = tuple(tuple(map(_shapes, call.trainer.shapes())) for call in calls)
    return part_models(result, sizes=sizes, shapes=shapes)


def stack(
    calls: Sequence[Call], trainer: programs.Programs, bundle: chunks.Bundle
) -> tuple[Any, programs.Models, types.Records]:
    """Returns what all calls ask as one call of a program for more classes would take it.

    Args:
      calls: of equal kind.
      trainer: the program for the most classes.
      bundle: how many models and labels there are; the last ones again and again where the calls have fewer.
    """
    states = [call.state for call in calls]
    models = [
        dataclasses.replace(call.models, labels=np.full(len(call.models.key), number, np.int32))
        for number, call in enumerate(calls)
    ]
    bias = networks.answer_bias(trainer.learning.network)
    state, stacked = stack_models(states, models, shapes=_shapes(trainer.shapes()[0]), bias=bias, size=bundle.size)
    labels = [call.records.labels for call in calls]
    labels += labels[-1:] * (bundle.num_chunks - len(labels))
    return state, stacked, types.Records(calls[0].records.features, jnp.stack(labels))


def _shapes(of_one: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of the leaves of one model."""
    return tuple(leaf.shape for leaf in jax.tree.leaves(of_one))


def _fill(state: Any, shapes: Sequence[tuple[int, ...]], bias: tuple[str, ...]) -> Any:
    """A state, leaves [S, ...], with more entries behind every axis up to the shapes that are wanted of one model."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    filled = []
    for (path, leaf), shape in zip(leaves, shapes, strict=True):
        names = [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]
        of_answers = tuple(names[-len(bias) :]) == bias and "opt_state" not in names
        width = ((0, 0), *((0, most - size) for size, most in zip(leaf.shape[1:], shape, strict=True)))
        filled.append(jnp.pad(leaf, width, constant_values=NEVER if of_answers else 0))
    return jax.tree.unflatten(structure, filled)


def _cut(tree: Any, rows: slice, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Some models of a tree with leaves [S, ...], the last axes cut to the shapes of one model."""
    leaves, structure = jax.tree.flatten(tree)
    cut = [leaf[(rows, ..., *map(slice, shape))] for leaf, shape in zip(leaves, shapes, strict=True)]
    return jax.tree.unflatten(structure, cut)


@functools.partial(compilation.jit_here, static_argnames=("shapes", "bias", "size"))
def stack_models(
    states: Any, models: Any, *, shapes: tuple[tuple[int, ...], ...], bias: tuple[str, ...], size: int
) -> Any:
    """States and models of all calls in a row, see `stack`."""

    def stack_leaves(*leaves: jax.Array) -> jax.Array:
        together = jnp.concatenate(leaves)
        return together[jnp.minimum(jnp.arange(size), len(together) - 1)]

    filled = [_fill(state, shapes, bias) for state in states]
    return jax.tree.map(stack_leaves, *filled), jax.tree.map(stack_leaves, *models)


@functools.partial(compilation.jit_here, static_argnames=("sizes", "shapes"))
def part_models(result: Any, *, sizes: tuple[int, ...], shapes: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """What each call asked for: the state, snapshots, and what is finite, in the shapes of its own program."""
    state, *snapshots, finite = result
    rows = [slice(end - size, end) for end, size in zip(itertools.accumulate(sizes), sizes, strict=True)]
    return [
        (_cut(state, row, of_state), *(_cut(tree, row, of_params) for tree in snapshots), finite[row])
        for row, (of_state, of_params) in zip(rows, shapes, strict=True)
    ]
