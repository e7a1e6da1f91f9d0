"""Builds the parts of one process, keeps its background tasks running, and stops it in order."""
