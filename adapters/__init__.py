"""Chat platforms and other ways in; each knows its own platform and nothing of sessions or workers."""
