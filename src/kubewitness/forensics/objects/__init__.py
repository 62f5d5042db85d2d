"""Objects in time: replayed from what the log holds of them; what it does not tell is marked."""
