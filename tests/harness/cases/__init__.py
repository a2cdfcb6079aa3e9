"""What hermesd promises under stress: one case a file, shared by the tests and by ``scripts/soak``.

Each module has ``run(times, seed, say)``: so many rounds, chosen by the seed; ``say`` gets a line of progress now and
then. It returns counts and times, and raises AssertionError with a list when a promise is broken.
"""
