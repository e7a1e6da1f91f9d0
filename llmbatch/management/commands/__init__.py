"""The processes `serve` and `batchworker`."""
