"""Code that runs in keeper and worker processes; ``containment`` is the part that the supervisor shares."""
