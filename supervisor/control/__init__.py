"""The control socket: one table of verbs (`api`), the server in hermesd and the client that ``hermesctl`` uses."""
