"""What the promises cost, measured on a lab of three real hosts: `make bench`."""
