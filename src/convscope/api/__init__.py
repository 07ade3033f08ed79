"""One function per verb, called by the command line, notebooks and programs."""
