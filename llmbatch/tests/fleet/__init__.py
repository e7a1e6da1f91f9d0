"""Tests with a fleet of real processes over Postgres and Redis."""
