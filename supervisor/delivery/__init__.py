"""What leaves for a chat, from the journal's outbox to the adapter."""
