"""The networks: tensors in, tensors out. No host, no files, no sampling."""
