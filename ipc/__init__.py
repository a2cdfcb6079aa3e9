"""The vocabulary that the supervisor, the keeper, the workers and ``hermesctl`` share.

A leaf: it imports the standard library and msgpack only (zmq in ``sockets`` alone), so every process can afford it.
"""
