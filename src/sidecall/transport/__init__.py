"""UNIX sockets and descriptors: addresses, passing, peers, and moving bytes on an event loop.

What is here knows nothing of processes, nor of what a message means. The low-level `_socket` is used instead of
`socket`, which takes longer to import than a call may last.
"""
