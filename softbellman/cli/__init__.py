"""The command line: `softbellman` and `softbellman-train`: arguments in, work elsewhere."""
