"""No torch: configuration, records, the run folder and errors. Everything else stands on this floor."""
