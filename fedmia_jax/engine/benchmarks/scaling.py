"""From one model to a thousand side by side: time and memory of each."""

from fedmia_jax.engine import memory
from fedmia_jax.engine.benchmarks import ceiling, records, shadows, timing
from fedmia_jax.engine.plans import points
from fedmia_jax.learning import networks

SIZES = (1, 10, 64, 256, 1024)
NUM_RECORDS = 2_000  # of each model


def make_suites(plans: points.Plans) -> list[timing.Suite]:
    """Returns a case for each number of models, one after the other, since a thousand take some memory."""
    module = networks.make_network(plans.network, num_classes=records.NUM_CLASSES)
    num_features, batch_size = plans.settings.get("data.num_features"), plans.training.batch_size
    nbytes = memory.training_nbytes(module, num_features=num_features, batch_size=batch_size)
    features, labels = records.make(plans)
    few = features[:NUM_RECORDS], labels[:NUM_RECORDS]
    cases = shadows.make_cases(plans, few, SIZES, batch_size=batch_size, nbytes=nbytes)
    return [timing.Suite("scaling", cases, batch_size, ceiling.make_ceiling(plans, batch_size), together=False)]
