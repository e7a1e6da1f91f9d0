"""Describes the API as an OpenAPI document.

A new endpoint needs a description in `operations/`, which its line in `llmbatch/routes.py` names.
"""
