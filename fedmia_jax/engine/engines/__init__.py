"""Who computes the chunks of a stage."""
