"""The supervisor process: platform connections, sessions, journal, routing, control. No agent code, ever."""
