"""Commands that run the gateway's processes."""
