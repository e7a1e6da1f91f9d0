"""The OpenAPI document: what each endpoint takes and answers.

A new endpoint needs its operations in a file of `operations/` and a line in `urls.py`.
"""
