"""Processes: finding a program, starting it, waiting for it and stopping it with all that it started.

What is here knows nothing of sockets or of the protocol.
"""
