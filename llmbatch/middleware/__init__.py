"""Middleware that runs both on the event loop and in threads."""
