"""Flags of a run on the toy records that is over in seconds."""

SMALL = (
    "--config.data.name=toys.reader:TOY",
    "--config.data.num_federation=100",
    "--config.data.num_test=100",
    "--config.model.hidden=8",
    "--config.federation.nodes=2",
    "--config.federation.cycles=2",
    "--config.federation.local_epochs=2",
    "--config.shadow.count=2",
)
