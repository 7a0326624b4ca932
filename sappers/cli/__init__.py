"""The two commands: sappers and sappers-deploy."""
