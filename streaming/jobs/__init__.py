"""Batch jobs: lines parsed, a store that survives a crash, a runner, and the routes of the server."""
