"""One function per verb, called alike by the command line, notebooks and programs."""
