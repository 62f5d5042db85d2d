"""Audit policies: what the API server is told to log, what that blinds and what it costs."""
