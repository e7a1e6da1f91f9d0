"""The endpoints of OpenAI's API, so that its clients work with another base URL and key."""
