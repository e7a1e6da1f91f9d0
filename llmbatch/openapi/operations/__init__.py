"""Descriptions of the operations, one module per group of endpoints."""
