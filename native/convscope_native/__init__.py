"""Fast CPU kernels for convscope; `convscope.kernels` is their only user and holds their naive twins."""
