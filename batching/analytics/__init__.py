"""Counts finished rows into daily statistics, and summarizes these."""
