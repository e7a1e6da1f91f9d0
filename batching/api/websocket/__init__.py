"""The WebSocket endpoints."""
