"""How much a sequential federation leaks about the records it was trained on."""
