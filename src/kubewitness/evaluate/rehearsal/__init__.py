"""Would it have been noticed here? Attacks that never happened, told in events of a real log."""
