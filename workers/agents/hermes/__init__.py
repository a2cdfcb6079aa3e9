"""The built-in agent ``hermes``: the AIAgent of the package hermes-agent, with the session's MCP servers and chat."""
