"""Subcommands of `python -m benchmark`, one module each; `analysis_options` has the options that analyses share."""
