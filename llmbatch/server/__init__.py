"""Daphne, adapted to this gateway: bounds on what clients send, and an orderly shutdown."""
