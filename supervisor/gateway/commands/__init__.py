"""Slash commands: answered by the supervisor, also while the agent is busy."""
