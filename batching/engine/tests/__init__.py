"""Tests of the engine, with a scripted model and virtual time."""
