"""Epsilon against independent calls of the library, closed forms, and an exact computation of small cases."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from scipy import optimize, stats

from fedmia_jax.defenses import accounting

DELTA = 1e-5
PUBLISHED = {  # steps, records of a node: noise multiplier -> epsilon of Renyi accounting at batches of 32
    (52_078, 3_333): {1.0: 17.0, 2.0: 5.7, 4.0: 2.4},
    (7_812, 1_000): {1.0: 23.7, 2.0: 7.7, 4.0: 3.3},
}


@pytest.mark.parametrize(("num_steps", "num_records"), PUBLISHED)
def test_renyi_accounting_is_that_of_the_library_and_ours_is_tighter(num_steps, num_records):
    steps = accounting.Steps(num_records, 32, 64, num_steps)
    for noise, published in PUBLISHED[num_steps, num_records].items():
        event = dp_accounting.PoissonSampledDpEvent(32 / num_records, dp_accounting.GaussianDpEvent(noise))
        independent = rdp.RdpAccountant().compose(event, num_steps).get_epsilon(DELTA)
        assert accounting.untruncated_epsilon(steps, noise, DELTA) == pytest.approx(independent, rel=1e-9)
        assert round(independent, 1) == published
        assert 0.85 * published < accounting.step_epsilon(steps, noise, DELTA) < published


def exact_delta(epsilon, *, pull, noise, num_records, rate, cap, num_steps):
    """The larger divergence of two neighbours, integrated: one record adds 1 to a sum, others take `pull` from it."""
    places = np.linspace(-cap - 9 * noise, cap + 9 * noise, 301)

    def density(counts):
        return sum(chance * stats.norm.pdf(places, total, noise) for total, chance in counts.items())

    others = stats.binom.pmf(np.arange(num_records), num_records - 1, rate)
    without, within = {}, {}
    for drawn, chance in enumerate(others):
        stays = rate * min(1, cap / (drawn + 1))  # the record is drawn too, and a random choice of the cap stays
        other, beside = -pull * min(drawn, cap), 1 - pull * min(drawn, cap - 1)
        without[other] = without.get(other, 0) + chance
        within[other] = within.get(other, 0) + (1 - stays) * chance
        within[beside] = within.get(beside, 0) + stays * chance
    first, second = density(within), density(without)
    if num_steps == 2:
        first, second = np.outer(first, first), np.outer(second, second)
    cell = (places[1] - places[0]) ** num_steps
    pairs = ((first, second), (second, first))
    return max(np.maximum(p - math.exp(epsilon) * q, 0).sum() * cell for p, q in pairs)


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize("cap", [1, 2, 4])
def test_the_bound_covers_an_exact_small_case(num_steps, cap):
    """Four records, two of them wanted in a batch; where no batch is cut, it is the exact epsilon."""
    delta, setup = 1e-3, {"noise": 1.0, "num_records": 4, "rate": 0.5, "cap": cap, "num_steps": num_steps}
    exact = [
        optimize.brentq(lambda epsilon, pull=pull: exact_delta(epsilon, pull=pull, **setup) - delta, 0, 20, rtol=1e-4)
        for pull in (0, 1)
    ]
    bound = accounting.step_epsilon(accounting.Steps(4, 2, cap, num_steps), 1.0, delta)
    assert max(exact) <= bound * (1 + 1e-4)
    if cap == 4:
        assert bound <= 1.01 * max(exact)


def test_truncation_costs_something_and_never_helps():
    epsilons = [accounting.step_epsilon(accounting.Steps(100, 32, cap, 10), 1.0, DELTA) for cap in (100, 40, 33)]
    assert epsilons[0] < epsilons[1] < epsilons[2]


def test_releases_compose_to_one_with_less_noise():
    for noise, count in ((1.0, 1), (10.0, 20), (4.0, 5)):
        epsilon = accounting.gaussian_epsilon(noise, count, DELTA)
        shift = math.sqrt(count) / noise  # Balle and Wang (2018), Theorem 8
        delta = stats.norm.cdf(shift / 2 - epsilon / shift)
        delta -= math.exp(epsilon) * stats.norm.cdf(-shift / 2 - epsilon / shift)
        assert delta == pytest.approx(DELTA, rel=1e-3)


def test_no_noise_promises_nothing_and_no_step_costs_nothing():
    steps = accounting.Steps(100, 10, 20, 50)
    assert accounting.step_epsilon(steps, 0.0, DELTA) == accounting.gaussian_epsilon(0.0, 3, DELTA) == math.inf
    assert accounting.step_epsilon(steps, 0.01, DELTA) == math.inf
    none = accounting.Steps(100, 10, 20, 0)
    assert accounting.step_epsilon(none, 0.0, DELTA) == accounting.gaussian_epsilon(0.0, 0, DELTA) == 0.0


def test_noise_is_solved_for_the_worst_node():
    nodes = [accounting.Steps(size, 10, 20, -(-size // 10) * 5) for size in (200, 35, 80, 200)]
    noise = accounting.solve_noise(nodes, 2.0, DELTA)
    epsilons = {steps.num_records: accounting.step_epsilon(steps, noise, DELTA) for steps in nodes}
    assert accounting.worst_node(nodes, noise, DELTA).num_records == max(epsilons, key=epsilons.get) == 35
    assert 1.98 < max(epsilons.values()) <= 2.0


def test_accounting_prints_nothing(capfd):
    accounting.untruncated_epsilon(accounting.Steps(1_000, 32, 64, 7_812), 0.3, DELTA)
    assert capfd.readouterr() == ("", "")
