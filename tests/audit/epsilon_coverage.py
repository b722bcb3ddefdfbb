"""How often bounds on epsilon exceed the truth: mechanisms whose epsilon is known, and readings that are broken.

    python -m tests.audit.epsilon_coverage           # 400 simulations a row: prints the table of docs/epsilon.md
    python -m tests.audit.epsilon_coverage --write   # and puts it there

A simulation is one training run with M canaries: every record's output is drawn by itself, with the record or without.
"""

import dataclasses
import functools
import math
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from fedmia_jax.audit import correction, epsilon

DELTA = 1e-5
TIMES = 400
CANARIES = 1000
CELLS = 60
SHARING = 10  # records of one coin, where a coin is shared
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "epsilon.md"
MARKS = ("<!-- epsilon_coverage -->\n", "<!-- /epsilon_coverage -->\n")


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """What a record gives away.

    Attributes:
      release: `(members bool[...], rng) -> f[...]`, an output for each record; higher speaks for a member.
      truth: its epsilon at a delta.
      mu: where it is a Gaussian mechanism.
    """

    release: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    truth: Callable[[float], float]
    mu: float | None = None


def randomized_response(eps: float, *, leak: float = 0.0) -> Mechanism:
    """The outcome itself, or its opposite with chance 1 / (1 + e^eps); with chance `leak` it is given away for sure."""
    true = special.expit(eps)

    def release(members, rng):
        answers = np.where(rng.random(members.shape) < true, members, ~members).astype(float)
        return np.where(rng.random(members.shape) < leak, 4.0 * members - 2.0, answers)

    def truth(delta):
        if delta < leak:
            return math.inf
        left = (delta - leak) / (1 - leak)
        return max(0.0, math.log((true - left) / (1 - true)))

    return Mechanism(release, truth)


def laplace(eps: float) -> Mechanism:
    """0 or 1 with noise of scale 1 / eps."""

    def truth(delta):
        return max(0.0, eps + 2 * math.log1p(-delta))

    return Mechanism(lambda members, rng: members + rng.laplace(0, 1 / eps, members.shape), truth)


def gaussian(mu: float) -> Mechanism:
    """0 or mu with standard normal noise."""

    def truth(delta):
        if not delta:
            return math.inf

        def excess(eps):
            return special.ndtr(mu / 2 - eps / mu) - np.exp(eps + special.log_ndtr(-mu / 2 - eps / mu)) - delta

        return optimize.brentq(excess, 0, 100)

    return Mechanism(lambda members, rng: mu * members + rng.normal(size=members.shape), truth, mu)


MECHANISMS = {
    "randomised response, epsilon 1": randomized_response(1.0),
    "randomised response, epsilon 4": randomized_response(4.0),
    "Laplace, epsilon 1": laplace(1.0),
    "Laplace, epsilon 4": laplace(4.0),
    "Gaussian, mu 0.5": gaussian(0.5),
    "Gaussian, mu 2": gaussian(2.0),
}
LEAK = 0.1
LEAKY = randomized_response(1.0, leak=LEAK)


@functools.cache
def one_run(looks: tuple[epsilon.Counts, ...], delta: float, level: float) -> float:
    """`epsilon.one_run`; simulations often agree in their counts."""
    return epsilon.one_run(looks, delta=delta, level=level)


def bound(outputs: np.ndarray, members: np.ndarray, *, delta: float = DELTA, level: float = correction.LEVEL) -> float:
    """The bound from one run with a coin for each record."""
    return one_run(tuple(epsilon.guess(outputs, members)), delta, level)


def exact(outputs: np.ndarray, members: np.ndarray, rng: np.random.Generator) -> float:
    """The bound where an exact half are members."""
    side = rng.random(len(members)) < 0.5
    halves = [(members & half, ~members & half) for half in (side, ~side)]
    return epsilon.exact_share(*(epsilon.pool(*(array[None, None] for array in (outputs, *half))) for half in halves))


def coins(times: int, rng: np.random.Generator, *, rate: float = 0.5) -> np.ndarray:
    """Outcomes of independent coins, bool[times, M]."""
    return rng.random((times, CANARIES)) < rate


def halves(times: int, rng: np.random.Generator) -> np.ndarray:
    """An exact half of the records, bool[times, M]."""
    return rng.permuted(np.tile(np.arange(CANARIES) < CANARIES // 2, (times, 1)), axis=1)


def violations(bounds: list[float], truth: float) -> float:
    """Share of the bounds that exceed the truth."""
    return float(np.mean(np.array(bounds) > truth + 1e-6))


def of_coins(mechanism: Mechanism, times: int, seed: int, *, delta: float = DELTA, rate: float = 0.5) -> list[float]:
    """Bounds from one run."""
    rng = np.random.default_rng([seed, 0])
    members = coins(times, rng, rate=rate)
    outputs = mechanism.release(members, rng)
    keep = [epsilon.make_fair(row, rate) for row in members]
    return [bound(out[few], row[few], delta=delta) for out, row, few in zip(outputs, members, keep, strict=True)]


def of_gaussian(mechanism: Mechanism, times: int, seed: int) -> list[float]:
    """Bounds from one run for Gaussian mechanisms."""
    rng = np.random.default_rng([seed, 1])
    members = coins(times, rng)
    looks = [epsilon.guess(*pair) for pair in zip(mechanism.release(members, rng), members, strict=True)]
    return [epsilon.one_run_gaussian(counts, delta=DELTA) for counts in looks]


def of_halves(mechanism: Mechanism, times: int, seed: int) -> list[float]:
    """Bounds from an exact half."""
    rng = np.random.default_rng([seed, 2])
    members = halves(times, rng)
    return [exact(*pair, rng) for pair in zip(mechanism.release(members, rng), members, strict=True)]


def alike(mechanism: Mechanism, times: int, seed: int, *, shared: bool) -> list[float]:
    """Bounds where records of a group are alike, and are scored by the mean of their group's outputs.

    Where their coin is shared, a mean tells what no single record does; where each has its own, it does not.
    """
    rng = np.random.default_rng([seed, 3])
    members = coins(times, rng)
    if shared:
        members = np.repeat(members[:, ::SHARING], SHARING, axis=1)
    groups = mechanism.release(members, rng).reshape(times, -1, SHARING).mean(axis=2)
    return [bound(*pair) for pair in zip(np.repeat(groups, SHARING, axis=1), members, strict=True)]


def largest(mechanism: Mechanism, times: int, seed: int, *, level: float) -> list[float]:
    """The largest bound of many cells, each of which reads another release of the same coins."""
    bounds = []
    for time in range(times):
        rng = np.random.default_rng([seed, 4, time])
        members = coins(1, rng)[0]
        outputs = mechanism.release(np.tile(members, (CELLS, 1)), rng)
        looks = [counts for out in outputs for counts in epsilon.guess(out, members)]
        share = CELLS * (1 - level)  # so that every look of every cell has the error that it has in a cell by itself
        bounds.append(epsilon.one_run(looks, delta=DELTA, level=1 - share))
    return bounds


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: what is read how, whether it is claimed, the truth, and the bounds."""

    world: str
    reading: str
    claimed: bool
    truth: float
    bounds: list[float]

    @property
    def rate(self) -> float:
        """The share of violations."""
        return violations(self.bounds, self.truth)


def make_rows(times: int) -> list[Row]:
    """Simulates all rows."""
    one = f"a coin for each record, delta {DELTA:g}"
    rows = []
    for seed, (name, mechanism) in enumerate(MECHANISMS.items()):
        truth = mechanism.truth(DELTA)
        rows.append(Row(name, one, True, truth, of_coins(mechanism, times, seed)))
        if mechanism.mu:
            reading = f"{one}, Gaussian curve"
            rows.append(Row(name, reading, True, truth, of_gaussian(mechanism, times, seed)))
        else:
            rows.append(
                Row(name, "an exact half, delta 0", True, mechanism.truth(0.0), of_halves(mechanism, times, seed))
            )
    response = MECHANISMS["randomised response, epsilon 1"]
    truth = response.truth(DELTA)
    biased = "coins of chance 0.8"
    rows.append(Row("randomised response, epsilon 1", biased, True, truth, of_coins(response, times, 11, rate=0.8)))
    leak, name = LEAKY.truth(LEAK), "a tenth given away for sure, the others as above"
    rows.append(Row(name, f"a coin for each record, delta {LEAK}", True, leak, of_coins(LEAKY, times, 12, delta=LEAK)))
    rows.append(Row(name, f"an exact half, delta 0 read as {LEAK}", False, leak, of_halves(LEAKY, times, 13)))
    name = f"{SHARING} records alike, scored together"
    rows.append(Row(name, "one coin for all of them", False, truth, alike(response, times, 14, shared=True)))
    rows.append(Row(name, "a coin for each record", True, truth, alike(response, times, 14, shared=False)))
    name, corrected = f"the largest of {CELLS} cells", 1 - (1 - correction.LEVEL) / CELLS
    rows.append(Row(name, "each at 95%", False, truth, largest(response, times, 15, level=correction.LEVEL)))
    rows.append(
        Row(name, f"each at {100 * corrected:.2f}%", True, truth, largest(response, times, 15, level=corrected))
    )
    return rows


def table(rows: list[Row]) -> str:
    """The table in Markdown."""
    lines = ["| records | read | claimed | epsilon | median bound | violations |", "|---|---|---|---|---|---|"]
    for row in rows:
        numbers = f"{row.truth:.3f} | {np.median(row.bounds):.3f} | {row.rate:.4f}"
        lines.append(f"| {row.world} | {row.reading} | {'yes' if row.claimed else '**no**'} | {numbers} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Prints the table, and writes it into the page where that is asked for."""
    made = table(make_rows(TIMES))
    print(made, end="")
    if "--write" in arguments:
        before, rest = PAGE.read_text().split(MARKS[0])
        PAGE.write_text(before + MARKS[0] + made + MARKS[1] + rest.split(MARKS[1])[1])


if __name__ == "__main__":
    main(sys.argv[1:])
