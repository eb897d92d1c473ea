"""The command line: one thin file per command. Importing it loads no torch."""
