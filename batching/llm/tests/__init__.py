"""Helpers that call the simulated model through the real SDK."""
