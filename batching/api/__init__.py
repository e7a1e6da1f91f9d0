"""The JSON endpoints: they parse a request, call the gateway or the store, and respond."""
