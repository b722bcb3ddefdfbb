"""Every test of a report closes the figures that it has drawn."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Closes all figures after a test."""
    yield
    plt.close("all")
