"""A Bot API server on loopback, with users who do what a test says: ``emulator.Emulator``.

``world`` holds users, chats and messages; ``shapes`` gives them their JSON; ``methods`` is the table of what a bot may
call, with the checks of the real server; ``errors`` its error texts, each with where it was seen; ``queue`` keeps
updates until they are acknowledged; ``faults`` what goes wrong on command; ``server`` speaks HTTP; ``emulator`` is the
control that tests use.

Where a comment names ``Client.cpp`` or ``WebhookActor.cpp``, it means the source of the official server
(github.com/tdlib/telegram-bot-api, version 10.0), and ``td/…`` that of its library (github.com/tdlib/td).
"""
