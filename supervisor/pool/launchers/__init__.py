"""How a worker process comes to exist."""
