"""Subcommands of `python -m benchmark`, one module each; `analysis_options` holds the options that analyses share."""
