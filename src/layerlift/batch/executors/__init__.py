"""Who has tasks done: workers of this machine, of a Ray cluster, or jobs of Slurm."""
