"""From what is known of a cluster back to who caused it, and who could have."""
