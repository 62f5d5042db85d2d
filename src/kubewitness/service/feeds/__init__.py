"""What brings events into the spool besides the webhook: files, buckets, Kafka, standard input."""
