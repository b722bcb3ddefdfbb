"""Programs for devices that are not there: whether they compile, and what they will take."""
