"""What can be called, as data: configuration, parameters, templates, callers. Pure, except for reading its file."""
