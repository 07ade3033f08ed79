"""CPU kernels of convscope. `convscope.backends.native` is their only user and has a reference for each of them."""
