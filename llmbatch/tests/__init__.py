"""Tests of the whole project, most of them with real processes."""
