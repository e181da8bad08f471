"""What may be called, as data: configuration, parameters, templates, callers. Pure, but for reading the configuration file."""
