"""The calling side: `call` makes one call, `api` is its subprocess-shaped face, `aio` the same for asyncio."""
