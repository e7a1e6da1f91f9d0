"""The commands of `./gateway` for API keys and the first administrator."""
