"""The serving side: the only place where protocol, transport and supervise meet."""
