"""A real Matrix server on loopback, and people who use it."""
