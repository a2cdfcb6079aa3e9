"""The two programs: ``hermesd`` and ``hermesctl``."""
