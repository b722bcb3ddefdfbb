"""The folder of an experiment, and what work leaves there by fingerprint."""
