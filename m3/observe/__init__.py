"""What a run tells while it runs: logs and progress, both on stderr."""

__all__ = ()
