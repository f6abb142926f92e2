"""Threads that compute when the process ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import threading
import torch
from napari_sam2._threads import start_thread

torch.set_num_threads(1)
should_stop, is_computing = threading.Event(), threading.Event()

def compute():
    values = torch.ones(300, 300)
    while not should_stop.is_set():
        values = (values @ values).clamp(0, 1)
        is_computing.set()
    print("stopped", flush=True)

start_thread(compute, should_stop.set, name="computing")
is_computing.wait()
print("ends", flush=True)
"""


def test_a_thread_in_torch_is_stopped_before_the_process_ends():
    run = subprocess.run([sys.executable, "-c", SCRIPT], check=False, capture_output=True, text=True, timeout=50)
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, ["ends", "stopped"], "")
