"""WebSockets: who may open one, what travels over it, and how it ends."""
