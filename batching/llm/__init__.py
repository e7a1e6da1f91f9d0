"""The model: Gemini behind the protocol of the engine, or a simulated model."""
