"""How good a lesion model is, measured on patients it never saw. `study.run_study` does it all."""
