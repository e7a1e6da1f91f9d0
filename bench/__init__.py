"""Measurements of the gateway and mutation tests of its engine."""
