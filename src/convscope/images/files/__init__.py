"""Image files: opening them, telling their format, and finding damage that decoders do not report."""
