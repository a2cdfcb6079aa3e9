"""The way of a message from a way in to a worker and back."""
