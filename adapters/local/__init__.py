"""The local way in: terminals, attached to chats of their own."""
