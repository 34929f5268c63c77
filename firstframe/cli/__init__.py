"""The command ``firstframe``: one file for each group of subcommands. They parse, call and print."""
