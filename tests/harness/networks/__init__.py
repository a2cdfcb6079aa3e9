"""The chat networks of the tests as one kind of thing: places to write in, what the bot has said there, bad weather."""
