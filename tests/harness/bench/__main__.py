"""``python -m harness.bench``, with ``tests`` on the path."""

# Nothing else on this level: every process that multiprocessing spawns imports this module again, and would be measured
# with whatever it brings.
if __name__ == "__main__":
    import sys

    from harness.bench.command import main

    sys.exit(main(sys.argv[1:]))
