"""The keeper: forks workers, reaps them, kills them, and outlives hermesd long enough to leave nothing behind.

It is one thread with one poll loop over the standard library. It is exec'd, never forked from the supervisor, whose
heap holds the platform tokens; and it must stay single-threaded, for only then is a fork of it a sound process.
"""
