"""What noise buys: the epsilon of private steps and of Gaussian releases, and the noise that a stated epsilon takes.

Everything is for adding or removing one record of one node. The assignment of records to nodes, and so how many a node
has, is public. Nodes share no record, so a record's epsilon is that of its own node over all its visits: what other
nodes do to the model, and an optimizer's moments, are post-processing. A federation's epsilon is its worst node's.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable

from fedmia_jax import options

LOWEST_ORDER = 1.85  # the library says of lower ones, which suit an epsilon beyond 30, that some have failed
RESOLUTION = 0.02  # of one step's privacy loss, over epsilon / root of steps; half of it gains a few thousandths
MOST = 1e3  # an epsilon that promises nothing; beyond it only infinity is stated
TOLERANCE = 5e-3  # relative, of the epsilon that noise is solved for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What every epsilon is stated for."""

    delta: float = options.option(
        1e-5, "delta of the epsilon that noise is said to give", low=1e-15, high=0.1, traced=True
    )


@dataclasses.dataclass(frozen=True, order=True)
class Steps:
    """The noisy steps of one node over all of its visits.

    Attributes:
      num_records: n of the node, which is public.
      batch_size: B, which a sum is divided by; each record is in a batch with chance B / n.
      most_records: of a batch; of more that are drawn a random choice stays.
      num_steps: over all visits.
    """

    num_records: int
    batch_size: int
    most_records: int
    num_steps: int

    @property
    def rate(self) -> float:
        """The chance of a record to be drawn into a batch."""
        return self.batch_size / self.num_records


def gaussian_epsilon(noise_multiplier: float, num_releases: int, delta: float) -> float:
    """Returns the epsilon of some releases of a clipped vector with Gaussian noise, exactly.

    Releases compose to one whose noise is smaller by the root of their number.

    Source: Balle and Wang (2018), Theorem 8.

    Args:
      noise_multiplier: standard deviation of the noise over the norm that the vector is clipped to, which is the most
        that one record changes it.
      num_releases: how often it is released, the C visits of a node.
      delta: between 0 and 1.
    """
    if not num_releases:
        return 0.0
    if not noise_multiplier:
        return math.inf
    import dp_accounting  # Takes half a second to import, which a run without promises need not pay; so below.

    return float(dp_accounting.get_epsilon_gaussian(noise_multiplier / math.sqrt(num_releases), delta))


@functools.cache
def step_epsilon(steps: Steps, noise_multiplier: float, delta: float) -> float:
    """Returns an upper bound on the epsilon of noisy steps on batches that are drawn record by record and truncated.

    The privacy loss distribution of one step is composed with itself. A batch that is full has another record in the
    place of the one that is removed, so truncation costs a little.

    Source: Ganesh et al. (2025), arXiv 2508.15089, for truncated batches; Koskela et al. (2020) for the composition.

    Args:
      steps: of one node.
      noise_multiplier: standard deviation of the noise on a clipped sum, over the norm that records are clipped to.
      delta: between 0 and 1.

    Returns:
      Epsilon; infinite without noise, or where it is beyond `MOST`.
    """
    rough = untruncated_epsilon(steps, noise_multiplier, delta)
    if not rough or rough > MOST:
        return math.inf if rough else 0.0
    import dp_accounting
    from dp_accounting import pld

    event = dp_accounting.dp_event.TruncatedSubsampledGaussianDpEvent(
        steps.num_records, steps.rate, steps.most_records, noise_multiplier
    )
    cell = RESOLUTION * rough / math.sqrt(steps.num_steps)
    adjacency = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = pld.PLDAccountant(adjacency, value_discretization_interval=cell)
    return float(accountant.compose(event, steps.num_steps).get_epsilon(delta))


@functools.cache
def untruncated_epsilon(steps: Steps, noise_multiplier: float, delta: float) -> float:
    """Returns what Renyi accounting says of the same steps if batches had no most records; not a bound on ours.

    It is what most papers state, and is shown beside `step_epsilon` for comparison.

    Source: Mironov, Talwar and Zhang (2019).
    """
    if not steps.num_steps:
        return 0.0
    if not noise_multiplier:
        return math.inf
    import dp_accounting
    from dp_accounting import rdp

    event = dp_accounting.PoissonSampledDpEvent(steps.rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    orders = [order for order in rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS if order > LOWEST_ORDER]
    adjacency = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = rdp.RdpAccountant(orders, adjacency).compose(event, steps.num_steps)
    return float(accountant.get_epsilon(delta))


def worst_node(every: Iterable[Steps], noise_multiplier: float, delta: float) -> Steps:
    """Returns the steps of the node whose epsilon is the largest, which is the federation's."""
    return max(sorted(set(every)), key=lambda steps: step_epsilon(steps, noise_multiplier, delta))


def solve_noise(every: Iterable[Steps], target_epsilon: float, delta: float) -> float:
    """Returns a noise multiplier under which no node's epsilon exceeds a target and the worst node's almost is it.

    Args:
      every: the steps of all nodes.
      target_epsilon: positive.
      delta: between 0 and 1.
    """
    nodes = sorted(set(every))
    noise = _guess(nodes[0], target_epsilon, delta)
    worst = worst_node(nodes, noise, delta)
    while True:
        noise = _solve(worst, target_epsilon, delta)
        worst = worst_node(nodes, noise, delta)
        if step_epsilon(worst, noise, delta) <= target_epsilon:
            return noise


def _solve(steps: Steps, target_epsilon: float, delta: float) -> float:
    """The noise multiplier of one node; epsilon falls almost as a power of it, so a few chords find it."""

    def excess(noise: float) -> float:
        return math.log(min(step_epsilon(steps, noise, delta), 2 * MOST) / target_epsilon)

    low = high = _guess(steps, target_epsilon, delta)
    while excess(low) <= 0:
        low /= 1.1
    while excess(high) > 0:
        high *= 1.1
    while excess(high) < -TOLERANCE and high / low > 1 + TOLERANCE**2:
        share = min(max(excess(low) / (excess(low) - excess(high)), 0.1), 0.9)
        middle = low * (high / low) ** min(share + 0.02, 0.9)
        low, high = (low, middle) if excess(middle) <= 0 else (middle, high)
    return high


def _guess(steps: Steps, target_epsilon: float, delta: float) -> float:
    """A noise multiplier near the one wanted, by a central limit theorem; Bu et al. (2020), equation 5."""
    tail = 2 * math.log(1 / delta)
    shift = math.sqrt(tail + 2 * target_epsilon) - math.sqrt(tail)
    return math.log1p(shift**2 / (steps.rate**2 * max(steps.num_steps, 1))) ** -0.5
