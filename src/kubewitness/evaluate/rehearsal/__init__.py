"""Would it have been noticed here? Attacks that never happened, told in the events of a real log."""
