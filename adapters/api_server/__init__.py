"""The OpenAI-compatible HTTP way in."""
