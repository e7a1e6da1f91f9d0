"""The batch side of a process: claims planned batches, runs them, and records the results."""
