"""The command line: ``jaxrl train``, ``evaluate``, ``play``, ``elo``, ``plot``, ``resume`` and ``list``."""
