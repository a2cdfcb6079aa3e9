"""Platform ``webhook``: events that programs post are messages; their answers go to a log or to a chat elsewhere."""
