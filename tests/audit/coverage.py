"""How often intervals cover a truth that is known, and how wide they are beside an oracle's.

    python -m tests.audit.coverage           # 1,000 simulations a row: prints the table of docs/intervals.md
    python -m tests.audit.coverage --write   # and puts it there

Scores are drawn, not trained. A score is what all replicates say of the record, plus noise, of variance 1 together; a
member's lies higher, by a shift of its node and one of its replicate. Half of the records are members, drawn anew in
each replicate. An oracle that knows the law of the estimator has an interval as wide as the middle 95% of estimates.
"""

import concurrent.futures
import os
import pathlib
import sys
from typing import NamedTuple

import numpy as np
from scipy import stats

from fedmia_jax.audit import coalitions, evidence, pooling, rows, scoring
from fedmia_jax.schedule import Schedule

TIMES = 1000
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "intervals.md"
MARKS = ("<!-- interval_coverage -->\n", "<!-- /interval_coverage -->\n")
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


def simulate(world: World, num_records: int, seed: int) -> tuple[evidence.Evidence, list[scoring.Scored]]:
    """Returns who owned what, and scores against every node."""
    rng = np.random.default_rng(seed)
    half, nodes, replicates = num_records // 2, len(world.shares), world.replicates
    dealt = np.searchsorted(np.cumsum(world.shares) * half - 0.5, np.arange(half))
    owners = np.stack([rng.permutation(np.append(dealt, np.full(half, -1))) for _ in range(replicates)])
    noise = np.sqrt(1 - world.of_record) * rng.normal(size=owners.shape)
    scores = np.sqrt(world.of_record) * rng.normal(size=num_records) + noise
    shifts = np.append(world.shifts, 0.0)[owners] + world.of_replicate * rng.normal(size=(replicates, 1))
    scores += np.where(owners >= 0, shifts, 0.0)
    schedule = Schedule.cyclic(nodes=nodes, cycles=1)
    phi = np.broadcast_to(scores.astype(np.float32)[:, None], (replicates, nodes, num_records))
    none = np.full(replicates, np.nan)
    group = [scoring.Scored("a", "v", "p", node, None, none, phi[:, 0], none) for node in range(nodes)]
    return evidence.Evidence(phi=phi, owners=owners, schedule=schedule), group


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


class Coverage(NamedTuple):
    """Of one number in one world; NaN where too few simulations have an interval."""

    resolved: float  # share of the simulations with an interval
    covered: float  # share of those whose interval holds the truth
    width: float  # median width over that of an oracle's


def measure(world: World, num_records: int, estimates: np.ndarray) -> dict[str, Coverage]:
    """Returns how good the intervals of a world were.

    Args:
      world: the law.
      num_records: members and non-members together.
      estimates: f[X, L, 3], as `estimate` returns them.
    """
    measured = {}
    for place, (name, truth) in enumerate(truths(world).items()):
        value, low, high = estimates[np.isfinite(estimates[:, place, 1]), place].T
        if len(value) < len(estimates) / 10:
            measured[name] = Coverage(len(value) / len(estimates), float("nan"), float("nan"))
            continue
        oracle = np.subtract(*np.percentile(estimates[:, place, 0], [97.5, 2.5]))
        covered = float(np.mean((low <= truth) & (truth <= high)))
        measured[name] = Coverage(len(value) / len(estimates), covered, float(np.median(high - low) / oracle))
    return measured


def table(times: int) -> str:
    """Returns the table of the page."""
    lines = ["| world | records | " + " | ".join(f"{name}: covered, width" for name in coalitions.NUMBERS) + " |"]
    lines.append("|---|---|" + "---|" * len(coalitions.NUMBERS))
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for world in WORLDS:
            for num_records in SIZES:
                jobs = [[which] * times for which in (world, num_records)]
                estimates = np.stack(list(pool.map(estimate, *jobs, range(times), chunksize=25)))
                cells = [_cell(coverage) for coverage in measure(world, num_records, estimates).values()]
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
    made = table(TIMES)
    print(made)
    if "--write" in sys.argv:
        text = PAGE.read_text()
        before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
        PAGE.write_text(before + MARKS[0] + made + MARKS[1] + after)


if __name__ == "__main__":
    main()
