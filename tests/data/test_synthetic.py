"""The synthetic set: deterministic, uneven, and as hard as the published one."""

import numpy as np
import pytest

from fedmia_jax import errors
from fedmia_jax.data import synthetic


def read(seed):
    return synthetic.read(synthetic.Options(num_records=3000, num_features=80), name="synthetic", seed=seed)


@pytest.fixture(scope="module")
def small():
    return read(seed=3)


def test_the_same_seed_gives_the_same_bits(small):
    again, other = read(seed=3), read(seed=4)
    assert small.fingerprint() == again.fingerprint()
    assert small.fingerprint() != other.fingerprint()


def test_bits_of_the_shape_asked_for(small):
    assert small.features.shape == (3000, 80)
    assert small.features.dtype == np.uint8
    assert small.labels is None
    assert small.title == "synthetic purchases, 3,000 customers x 80 items"


def test_items_differ_in_popularity_and_customers_in_how_much_they_buy(small):
    """Independent bits of one popularity would spread items and customers by binomial noise only."""
    share = small.features.mean()
    by_item, by_customer = small.features.mean(axis=0), small.features.mean(axis=1)
    assert 0.1 < share < 0.35
    assert by_item.std() > 4 * np.sqrt(share * (1 - share) / 3000)
    assert by_customer.std() > 1.5 * np.sqrt(share * (1 - share) / 80)


def test_purchases_go_together(small):
    """Tastes are shared between items: some pairs correlate far beyond chance."""
    correlation = np.corrcoef(small.features.T)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() > 6 / np.sqrt(3000)


def test_more_than_can_be_held_is_refused():
    with pytest.raises(
        errors.InputError, match=r"data\.num_records=10000000, data\.num_features=600: more than can be"
    ):
        synthetic.read(synthetic.Options(num_records=10**7), name="synthetic", seed=0)
