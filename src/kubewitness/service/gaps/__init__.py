"""When the witness is blindfolded: what a log used to show and no longer does."""
