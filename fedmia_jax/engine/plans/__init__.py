"""What is to be done, before anything of it is computed: points, runs, tasks, and the plan of them all."""
