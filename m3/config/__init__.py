"""
Configuration: TOML file, ``M3_*`` environment and flags, made into a plan.

========================  ======================================================
:mod:`.origins`           where a value was given; a mistake
:mod:`.values`            values written as text; ``${VAR}``
:mod:`.lines`             the line of each key of a TOML document
:mod:`.sources`           file, environment and flags, each read into a layer
:mod:`.merging`           the layers laid over one another
:mod:`.schema`            what may be said, as attrs classes
:mod:`.own_options`       the options of a stage's or resource's class, checked
:mod:`.resources`         the resources that are named, found and made
:mod:`.error_policies`    what ``on_error`` says, made into a policy
:mod:`.configuration`     all of it: read, checked, turned into a plan
========================  ======================================================
"""

from m3.config.configuration import Configuration, Effective, read
from m3.config.origins import Origin, Problem
from m3.config.sources import Flags

__all__ = ("Configuration", "Effective", "Flags", "Origin", "Problem", "read")
