"""Stores each request with its answer, and lists, searches and exports them."""
