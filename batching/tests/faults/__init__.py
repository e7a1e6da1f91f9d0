"""The catalogue of faults of the model service, and tests that the gateway survives each."""
