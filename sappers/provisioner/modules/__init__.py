"""One file a module: what it is for, which arguments it takes, and a pure function.

What runs on hosts needs Python 3.8 and the standard library alone: it travels as it stands here.
"""
