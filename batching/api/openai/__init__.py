"""The API in OpenAI's words: any of its clients works by another base URL and key."""
