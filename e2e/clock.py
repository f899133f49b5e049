"""A wall clock that can be set, for processes that start under it: see fixtures/clock.c."""

import contextlib
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

from harness import ROOT

SOURCE = ROOT / "e2e/fixtures/clock.c"


class Clock:
    """The wall's clock as some processes see it; time passes for them as for all others."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-clock-"))
        self.library, self.file = self.folder / "clock.so", self.folder / "ahead"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.library, SOURCE], check=True, timeout=60)
        self.file.write_bytes(bytes(8))

    def set(self, hours):
        """So many hours ahead of the machine's clock from now on."""
        with open(self.file, "r+b") as file:
            file.write(struct.pack("=q", hours * 3600))

    @contextlib.contextmanager
    def over_what_starts(self):
        """Processes that are started within see this clock, and those that they start."""
        ours = {"LD_PRELOAD": str(self.library), "SALLYPORT_TEST_CLOCK": str(self.file)}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                del os.environ[name]

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
