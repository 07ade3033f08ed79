"""Classifiers that convscope did not write, run in a process of their own."""
