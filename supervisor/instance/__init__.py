"""One hermesd per home: where its files are, who holds it, and how it is started in the background.

Standard library only: ``hermesctl`` imports it before its first line of output.
"""
