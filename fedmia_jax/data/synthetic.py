"""Synthetic purchases: a logistic latent-factor model, calibrated to the paper's centralised test accuracies.

A customer has tastes z in R^d, an item loadings w and a popularity b, and the customer buys the item with probability
sigmoid(b + w . z + a), a being how much this customer buys at all. A continuous taste space is what makes many classes
hard to learn; customers differ in how strong their tastes are, and one in seven belongs to a niche, a small crowd of
like tastes, which is what leaves the hundred classes learnable and their sizes uneven.
"""

import dataclasses

import numpy as np
from jaxtyping import Float32

from fedmia_jax import errors, options, randomness
from fedmia_jax.data import contract, records

# Calibrated together, for one set of numbers to serve all class counts. Centralised test accuracy of the default
# settings at 10, 20, 50 and 100 classes: .808, .725, .632, .545; Table I of the paper: .781, .726, .645, .567.
# Ten classes seem bounded from below: an overfitted network tells about .80 to .84 of them on any such cloud.
NUM_TASTES = 30  # d
LOADING = 1.0  # standard deviation of w . z over items, for a customer of ordinary tastes
POPULARITY = (-1.7, 0.5)  # mean and standard deviation of b
TASTE_SPREAD = 0.3  # standard deviation of the logarithm of a customer's strength of taste
ACTIVITY_SPREAD = 0.7  # standard deviation of a
NICHE_SHARE, NUM_NICHES = 0.14, 100
NICHE_DISTANCE = 1.5  # of a niche's centre from ordinary, in units of sqrt(d)
NICHE_WIDTH = 0.3  # spread of tastes within a niche, 1 being everybody's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(records.FeatureOptions):
    """How many customers and items there are."""

    num_records: int = options.option(60_000, "records of the synthetic set", low=10)


def read(settings: Options, *, name: str, seed: int) -> records.RawRecords:
    """Draws purchases without labels; k-means makes the classes.

    Source: the set it stands in for is Acquire Valued Shoppers as used by Shokri et al. (2017); the model is ours.

    Args:
      settings: numbers of customers and of items.
      name: unused, there is no file to speak of.
      seed: the same seed gives the same records.

    Returns:
      uint8[num_records, num_features] bits.

    Raises:
      InputError: more customers, with their tastes and items, than `records.MOST_BYTES`.
    """
    del name
    items, customers = (randomness.make_generator(seed, 0, randomness.Purpose.RECORDS, part) for part in range(2))
    num_records, num_features = settings.num_records, settings.num_features
    if num_records * (num_features + 8 * NUM_TASTES) > records.MOST_BYTES:
        raise errors.InputError(
            f"data.num_records={num_records}, data.num_features={num_features}: more than can be held; use fewer "
            "records or features"
        )
    loadings = items.standard_normal((NUM_TASTES, num_features), np.float32) * (LOADING / np.sqrt(NUM_TASTES))
    popularity = items.normal(*POPULARITY, num_features)
    tastes = _draw_tastes(num_records, items, customers)
    activity = ACTIVITY_SPREAD * customers.standard_normal((num_records, 1), np.float32)
    logits = tastes @ loadings.astype(np.float32) + popularity.astype(np.float32) + activity
    # u < sigmoid(x) is log(u / (1 - u)) < x: a logistic draw below the logit.
    bits = customers.logistic(size=logits.shape) < logits
    title = f"synthetic purchases, {num_records:,} customers x {num_features} items"
    return records.RawRecords(features=bits.astype(np.uint8), labels=None, num_classes=None, title=title)


SYNTHETIC = contract.Factory(read, Options)


def _draw_tastes(
    num_records: int, items: np.random.Generator, customers: np.random.Generator
) -> Float32[np.ndarray, "M d"]:
    """Tastes of all customers: ordinary customers, and those of a niche around its centre."""
    centres = items.standard_normal((NUM_NICHES, NUM_TASTES))
    centres *= NICHE_DISTANCE * np.sqrt(NUM_TASTES) / np.linalg.norm(centres, axis=1, keepdims=True)
    niche_shares = items.dirichlet(np.ones(NUM_NICHES))
    tastes = customers.standard_normal((num_records, NUM_TASTES), np.float32)
    tastes *= np.exp(TASTE_SPREAD * customers.standard_normal((num_records, 1), np.float32))
    niche = customers.choice(NUM_NICHES, num_records, p=niche_shares)
    in_niche = customers.random((num_records, 1)) < NICHE_SHARE
    return np.where(in_niche, centres[niche] + NICHE_WIDTH * tastes, tastes).astype(np.float32)
