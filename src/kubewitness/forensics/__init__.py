"""After the fact: from what is found back to who did it, when, and what else they did."""
