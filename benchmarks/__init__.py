"""Speed and learning, measured by commands that anyone can run."""
