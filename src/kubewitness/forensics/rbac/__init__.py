"""Who may do what, and who did: roles and bindings as a log tells of them, asked both ways."""
