"""How much a federation leaks about the records it was trained on, and what it costs to make it leak less."""

from fedmia_jax.attacks import ATTACKS
from fedmia_jax.audit.api import audit
from fedmia_jax.audit.evidence import Evidence, ModelScores, References
from fedmia_jax.audit.findings import Findings
from fedmia_jax.data import READERS
from fedmia_jax.defenses import DEFENSES
from fedmia_jax.errors import InputError
from fedmia_jax.learning.networks import NETWORKS
from fedmia_jax.protocols import PROTOCOLS
from fedmia_jax.schedule import Schedule

__all__ = [
    "ATTACKS",
    "DEFENSES",
    "NETWORKS",
    "PROTOCOLS",
    "READERS",
    "Evidence",
    "Findings",
    "InputError",
    "ModelScores",
    "References",
    "Schedule",
    "audit",
]
