"""Reports as web pages: one file with everything inside, to open anywhere and to send around."""
