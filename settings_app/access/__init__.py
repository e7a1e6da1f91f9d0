"""API keys, sessions and rate limits: who may use the API, the pages and the admin."""
