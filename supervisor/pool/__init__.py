"""Worker processes: how they come to be, live, are measured and end."""
