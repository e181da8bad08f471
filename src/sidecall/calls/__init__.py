"""A call's life: admission, execution, events and records."""
