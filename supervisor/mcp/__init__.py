"""What hermesd knows of MCP servers over all sessions: their tools, and how often they may be started."""
