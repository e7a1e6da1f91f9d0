"""The web side of a request: checks it, stores it, and waits for its answer."""
