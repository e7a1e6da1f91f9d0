"""API keys, sessions and rate limits: access to the API, the pages and the admin."""
