"""Fast CPU kernels for convscope; `convscope.backends.native` is their only user and holds their naive twins."""
