"""Conversations: how they are named."""
