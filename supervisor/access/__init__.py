"""Who may talk: one gate before any worker exists."""
