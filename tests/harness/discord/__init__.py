"""A Discord on loopback: REST API, gateway and content server, as far as a bot sees them.

Where a behaviour is not obvious, the comment beside it says where Discord's documentation or discord.py shows it. It is
our own, so what it shows is checked once more in-process against PyPI's ``simcord`` (``tests/contract/discord``).
"""
