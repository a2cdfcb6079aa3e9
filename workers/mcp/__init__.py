"""The MCP servers of one worker: their life is ours, the protocol is the SDK's."""
