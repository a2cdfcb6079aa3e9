"""The built-in agent ``llm``: a tool-calling loop over any OpenAI-compatible endpoint, with the session's tools."""
