"""One small filter language over events, with two evaluators that agree: SQL and in memory."""
