"""Tests with a real server process."""
