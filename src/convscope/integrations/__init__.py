"""Other libraries' interfaces to convscope."""
