"""What tests, ``scripts/soak`` and ``scripts/bench`` share: the installed programs, driven from outside."""
