"""Where incidents go: what each receiver wants to hear, and until it heard it."""
