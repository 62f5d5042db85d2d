"""From what the user names to chunks of NDJSON: files, compression, sifting, quarantine."""
