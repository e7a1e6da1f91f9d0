"""The commands of `manage.py` for API keys and the first administrator."""
