"""The command line: one module per verb, in the order of the pipeline."""
