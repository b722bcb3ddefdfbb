"""What to compute, once, where and when: runs, tasks, chunks, programs, execution, collection."""
