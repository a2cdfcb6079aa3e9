"""Platform ``matrix``, on mautrix."""
