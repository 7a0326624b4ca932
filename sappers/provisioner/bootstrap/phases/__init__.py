"""The phases of bootstrap, one file each, in the order that `bootstrap.py` lists them."""
