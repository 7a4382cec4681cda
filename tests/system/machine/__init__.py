# SPDX-License-Identifier: Apache-2.0
"""A Debian machine in QEMU that tests can boot, drive, cut off and look into."""

from .deadline import Deadline, TimedOut
from .image import Image
from .machine import CommandFailed, Disk, Machine, MachineError, Result
from .template import Template

__all__ = ["CommandFailed", "Deadline", "Disk", "Image", "Machine", "MachineError", "Result",
           "Template", "TimedOut"]
