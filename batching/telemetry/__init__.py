"""What is observed of this process: log lines, Prometheus metrics, and events for the live page."""
