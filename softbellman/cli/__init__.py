"""The command line: `softbellman` and `softbellman-train`: arguments in, work elsewhere."""

from softbellman.cli.waiting import wait_briefly

wait_briefly()  # before anything imports torch, which reads it once
