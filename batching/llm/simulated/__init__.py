"""A model inside the process that speaks the wire format of Gemini and needs no key."""
