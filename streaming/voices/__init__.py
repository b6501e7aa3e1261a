"""Custom voices: consents and the voices made under them, what is heard of a recording, and the routes."""
