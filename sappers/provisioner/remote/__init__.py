"""What runs on hosts: standard library only, Python 3.8 and newer, sent over and left nowhere."""
