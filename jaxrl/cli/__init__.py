"""The command line: ``jaxrl train``, ``evaluate``, ``plot``, ``resume``, ``list``."""
