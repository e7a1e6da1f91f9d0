"""The settings that staff may change, and who may use the gateway."""
