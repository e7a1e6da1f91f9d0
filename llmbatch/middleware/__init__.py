"""Middleware that runs on the event loop and in threads alike."""
