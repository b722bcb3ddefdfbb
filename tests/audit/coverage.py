"""How often intervals cover a truth that is known, and how wide they are beside an oracle's.

    python -m tests.audit.coverage                      # 1,000 simulations a row: prints the table of docs/intervals.md
    python -m tests.audit.coverage --write              # and puts it there
    python -m tests.audit.coverage --paired [--write]   # that of differences between two attacks

Scores are drawn, not trained. A score is what all replicates say of the record, plus noise, of variance 1 together; a
member's lies higher, by a shift of its node and one of its replicate. Half of the records are members, drawn anew in
each replicate. An oracle that knows the law of the estimator has an interval as wide as the middle 95% of estimates.
The second of two attacks shares part of all that is drawn with the first, and its shifts are smaller.
"""

import concurrent.futures
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from fedmia_jax.audit import coalitions, comparisons, evidence, pooling, rows, scorers
from fedmia_jax.schedule import Schedule

TIMES = 1000
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "intervals.md"
SHARED, WEAKER = 0.8, 0.9  # correlation of two attacks; shifts of the second over those of the first
ENDS = {"auc": "_replicates"} | {f"tpr_at_fpr_{rate}": "" for rate in rows.RATES}  # of the columns with both ends


class World(NamedTuple):
    """A law of scores."""

    name: str
    replicates: int = 5
    shifts: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)  # of members, by node
    shares: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)  # of the members, by node
    of_record: float = 0.5  # variance of what all replicates say of a record
    of_replicate: float = 0.0  # standard deviation of a replicate's shift


WORLDS = (
    World("one model, independent scores", 1, (1.0,), (1.0,), of_record=0.0),
    World("5 replicates x 4 nodes, record effects"),
    World("replicate effects of .1 too", of_replicate=0.1),
    World("replicate effects of .3, unequal nodes", 5, (0.6, 1.0, 1.4, 2.0), (0.4, 0.3, 0.2, 0.1), of_replicate=0.3),
)
SIZES = (2_000, 10_000)


def simulate(world: World, num_records: int, seed: int) -> tuple[evidence.Evidence, list[scorers.Scored]]:
    """Returns who owned what, and scores against every node."""
    arrays, group, _ = simulate_two(world, num_records, seed)
    return arrays, group


def simulate_two(
    world: World, num_records: int, seed: int
) -> tuple[evidence.Evidence, list[scorers.Scored], list[scorers.Scored]]:
    """Returns who owned what, and the scores of two attacks against every node."""
    rng = np.random.default_rng(seed)
    half, nodes, replicates = num_records // 2, len(world.shares), world.replicates
    dealt = np.searchsorted(np.cumsum(world.shares) * half - 0.5, np.arange(half))
    owners = np.stack([rng.permutation(np.append(dealt, np.full(half, -1))) for _ in range(replicates)])
    first, fresh = _draw(world, rng, owners.shape), _draw(world, rng, owners.shape)
    second = [SHARED * part + np.sqrt(1 - SHARED**2) * other for part, other in zip(first, fresh, strict=True)]
    none, groups = np.full(replicates, np.nan), []
    for (noise, of_replicate), shifts in ((first, world.shifts), (second, weaker(world).shifts)):
        lifts = np.append(shifts, 0.0)[owners] + of_replicate
        scores = (noise + np.where(owners >= 0, lifts, 0.0)).astype(np.float32)
        groups.append([scorers.Scored("a", "v", "p", node, None, none, scores, none) for node in range(nodes)])
    phi = np.broadcast_to(groups[0][0].scores[:, None], (replicates, nodes, num_records))
    arrays = evidence.Evidence(phi=phi, owners=owners, schedule=Schedule.cyclic(nodes=nodes, cycles=1))
    return arrays, groups[0], groups[1]


def _draw(world: World, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What is drawn of records, f[S, M], and of replicates, f[S, 1]."""
    noise = np.sqrt(1 - world.of_record) * rng.normal(size=shape)
    noise += np.sqrt(world.of_record) * rng.normal(size=shape[1])
    return noise, world.of_replicate * rng.normal(size=(shape[0], 1))


def weaker(world: World) -> World:
    """Returns the law of the second of two attacks."""
    return world._replace(shifts=tuple(WEAKER * shift for shift in world.shifts))


def truths(world: World) -> dict[str, float]:
    """Returns what the numbers are of, over all records and replicates that there could be."""
    shifts, spread = np.array(world.shifts), world.of_replicate
    truth = {"auc": float(stats.norm.cdf(shifts / np.sqrt(2 + spread**2)).mean())}
    for rate in rows.RATES:
        above = stats.norm.sf((stats.norm.isf(rate) - shifts) / np.sqrt(1 + spread**2))
        truth[f"tpr_at_fpr_{rate}"] = float(above.mean())
    return truth


def estimate(world: World, num_records: int, seed: int) -> np.ndarray:
    """Returns each number with both ends of its interval, f[L, 3], NaN for what the sample does not resolve."""
    row = pooling.pool(*simulate(world, num_records, seed), with_curve=False).row
    return np.array(
        [[row[name], row[f"{name}_low{end}"], row[f"{name}_high{end}"]] for name, end in ENDS.items()], float
    )


def true_differences(world: World) -> dict[str, float]:
    """Returns what the differences between the two attacks are of."""
    second = truths(weaker(world))
    return {name: truth - second[name] for name, truth in truths(world).items()}


def estimate_difference(world: World, num_records: int, seed: int) -> np.ndarray:
    """Returns the difference of each number, as `estimate` does."""
    arrays, *groups = simulate_two(world, num_records, seed)
    draws: list[dict[str, Any]] = []
    for name, group in zip("ab", groups, strict=True):
        pooled = pooling.pool(arrays, group, with_curve=False, with_influence=True)
        draws += [{"attack": name, "view": "v"} | row for row in comparisons.make_draws(pooled, arrays.nodes)]
    (row,) = comparisons.between_attacks(draws, "a")
    return np.array([[row[column] for column in comparisons.number_columns(number)] for number in ENDS], float)


class Coverage(NamedTuple):
    """Of one number in one world; NaN where too few simulations have an interval."""

    resolved: float  # share of the simulations with an interval
    covered: float  # share of those whose interval holds the truth
    width: float  # median width over that of an oracle's


def measure(truth_of: Mapping[str, float], estimates: np.ndarray) -> dict[str, Coverage]:
    """Returns how good the intervals of a world were.

    Args:
      truth_of: the numbers, as `truths` returns them.
      estimates: f[X, L, 3], as `estimate` returns them.
    """
    measured = {}
    for place, (name, truth) in enumerate(truth_of.items()):
        value, low, high = estimates[np.isfinite(estimates[:, place, 1]), place].T
        if len(value) < len(estimates) / 10:
            measured[name] = Coverage(len(value) / len(estimates), float("nan"), float("nan"))
            continue
        oracle = np.subtract(*np.percentile(estimates[:, place, 0], [97.5, 2.5]))
        covered = float(np.mean((low <= truth) & (truth <= high)))
        measured[name] = Coverage(len(value) / len(estimates), covered, float(np.median(high - low) / oracle))
    return measured


class Kind(NamedTuple):
    """What one table of the page is about."""

    name: str  # of the marks around it
    truths: Callable[[World], dict[str, float]]
    estimate: Callable[[World, int, int], np.ndarray]


SINGLE = Kind("interval_coverage", truths, estimate)
PAIRED = Kind("difference_coverage", true_differences, estimate_difference)


def table(kind: Kind) -> str:
    """Returns a table of the page."""
    lines = ["| world | records | " + " | ".join(f"{name}: covered, width" for name in coalitions.NUMBERS) + " |"]
    lines.append("|---|---|" + "---|" * len(coalitions.NUMBERS))
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for world in WORLDS:
            for num_records in SIZES:
                jobs = [[which] * TIMES for which in (world, num_records)]
                estimates = np.stack(list(pool.map(kind.estimate, *jobs, range(TIMES), chunksize=25)))
                cells = [_cell(coverage) for coverage in measure(kind.truths(world), estimates).values()]
                lines.append(f"| {world.name} | {num_records:,} | " + " | ".join(cells) + " |")
                print(lines[-1], file=sys.stderr)
    return "".join(f"{line}\n" for line in lines)


def _cell(coverage: Coverage) -> str:
    """One cell: a dash without intervals, and how many simulations had one where not all had."""
    if np.isnan(coverage.covered):
        return "no interval"
    some = "" if coverage.resolved == 1 else f" ({coverage.resolved:.0%})"
    return f"{coverage.covered:.3f}, {coverage.width:.2f}{some}"


def main() -> None:
    """Prints the table, or writes it."""
    kind = PAIRED if "--paired" in sys.argv else SINGLE
    made = table(kind)
    print(made)
    if "--write" in sys.argv:
        text = PAGE.read_text()
        start, end = f"<!-- {kind.name} -->\n", f"<!-- /{kind.name} -->\n"
        PAGE.write_text(text.split(start)[0] + start + made + end + text.split(end)[1])


if __name__ == "__main__":
    main()
