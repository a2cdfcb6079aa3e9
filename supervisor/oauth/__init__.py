"""Access tokens of MCP servers with ``auth: oauth``: on disk as hermes-agent keeps them, refreshed by one process."""
