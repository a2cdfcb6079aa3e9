"""Discord, by discord.py: messages and slash commands in, answers, buttons and files out."""
