"""Names of devices that are not there."""

import pytest

from fedmia_jax import errors
from fedmia_jax.engine.accelerators import topologies


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("v5e", "not known; name one such as v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2, h100"),
        ("v9:2x2", "not known"),
        ("h100:2", "not known"),
        ("v5e:0x-1", "not known"),
    ],
)
def test_a_topology_that_is_not_known_is_one_line(name, line):
    with pytest.raises(errors.InputError, match=f"^--topology={name}: {line}"):
        topologies.find(name)


def test_a_compiler_that_is_not_there_is_one_line(monkeypatch):
    def fail(**asked):
        raise RuntimeError("JAX TPU support\nnot installed")

    monkeypatch.setattr(topologies.topologies, "get_topology_desc", fail)
    with pytest.raises(
        errors.InputError, match=r"its compiler cannot be used \(JAX TPU support not installed\); install"
    ):
        topologies.find("v5e:2x2")
