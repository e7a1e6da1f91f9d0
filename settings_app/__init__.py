"""The settings that staff may change, and the access to the gateway."""
