"""From a state back to who caused it, and from a deed forward to what it reached."""
