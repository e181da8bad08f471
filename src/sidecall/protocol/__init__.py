"""The wire protocol, version 1, without I/O and without a clock. PROTOCOL.md is the normative text.

`messages` has the typed field lists, `codec` their bytes, `states` who can send what when, and `connection` puts the
three together behind `receive_data`, `events` and `send`.
"""
