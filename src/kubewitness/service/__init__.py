"""The live witness: what arrives, is stored, judged and told, for months."""
