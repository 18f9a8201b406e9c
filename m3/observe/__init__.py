"""
What a run tells while it runs.

``logs`` and ``progress`` (with ``rates``) tell people, on stderr; ``health`` tells probes, over
HTTP, and ``systemd`` a service manager.
"""

__all__ = ()
