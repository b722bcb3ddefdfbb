"""A toy federation whose signals are drawn, not trained: what a visit leaves on its records fades at each hand-off."""

from collections.abc import Callable

import numpy as np
import pytest

from fedmia_jax.audit import evidence
from fedmia_jax.schedule import Schedule


def draw_phi(
    rng: np.random.Generator, difficulty: np.ndarray, owners: np.ndarray, schedule: Schedule, *, lift: float
) -> np.ndarray:
    """Signals of one federation, f32[T, M]: a record's difficulty, noise, and a lift that halves at each hand-off."""
    ages = schedule.ages[:, np.maximum(owners, 0)]  # [T, M]
    left = np.where((owners >= 0) & (ages < len(schedule)), lift * 0.5**ages, 0.0)
    return (difficulty + left + 0.7 * rng.normal(size=left.shape)).astype(np.float32)


@pytest.fixture(scope="session")
def deal() -> Callable[..., np.ndarray]:
    """`deal(rng, num_records, nodes=3)`: owners i32[M] of a random half of the records, dealt evenly; -1 outside."""

    def call(rng: np.random.Generator, num_records: int, *, nodes: int = 3) -> np.ndarray:
        owners = np.full(num_records, -1, np.int32)
        held = rng.permutation(num_records)[: num_records // 2]
        owners[held] = np.arange(len(held)) % nodes
        return owners

    return call


@pytest.fixture(scope="session")
def make_evidence(deal) -> Callable[..., evidence.Evidence]:
    """`make_evidence(schedule, ..)`: targets and references over the same records, and an attack called `loss`."""

    def call(
        schedule: Schedule,
        *,
        reference_schedule: Schedule | None = None,
        targets: int = 2,
        references: int = 12,
        num_records: int = 360,
        lift: float = 2.0,
        seed: int = 0,
    ) -> evidence.Evidence:
        rng = np.random.default_rng(seed)
        difficulty = 1.2 * rng.normal(size=num_records)
        of_references = schedule if reference_schedule is None else reference_schedule

        def draw(orders: Schedule, number: int) -> tuple[np.ndarray, np.ndarray]:
            owners = np.stack([deal(rng, num_records, nodes=orders.nodes) for _ in range(number)])
            phi = [draw_phi(rng, difficulty, each, orders.at(index), lift=lift) for index, each in enumerate(owners)]
            return np.stack(phi), owners

        phi, owners = draw(schedule, targets)
        of_known, known_owners = draw(of_references, references)
        known = evidence.References(
            phi=of_known, owners=known_owners, schedule=reference_schedule, signals={"phi@2.0": of_known / 2}
        )
        scores = evidence.ModelScores(
            scores=phi, thresholds=np.full(phi.shape[:2], 0.5, np.float32), held_out=np.full(phi.shape[:2], 0.75)
        )
        return evidence.Evidence(
            phi=phi,
            owners=owners,
            schedule=schedule,
            references=known,
            correct=phi > 0,
            model_scores={"loss": scores},
            signals={"phi@2.0": phi / 2},  # of two classes
        )

    return call
