"""Tests that compare the documents and container files with the code."""
