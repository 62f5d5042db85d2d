"""Causes: deeds, the links between them, back to who began it and forward to what it reached."""
