"""`lts_detect` takes as much memory for a long recording as for a short one, each searched in a process of its own."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='needs resource.getrusage')
MB = 2**20

RUN = """
import json, resource, sys
from lt_signals.apps.detect import DetectConfig
from lt_signals.runs.detections import run_detect
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)
before = peak()
run_detect(DetectConfig(sys.argv[1], sys.argv[2], sample_rate=1e6, device='cpu'))
print(json.dumps([before, peak()]))
"""


def write(path, seconds):
    "8-bit noise at 1 MS/s with a burst every 5 ms and a carrier from the first sample to the last; the number of bursts."
    rng, n = np.random.default_rng(0), 10**6
    t = np.arange(n)
    x = 6*(rng.standard_normal(n) + 1j*rng.standard_normal(n)) + 5*np.exp(2j*np.pi*.3*t)
    x += 8*np.exp(-2j*np.pi*.2*t)*(t % 5000 > 3000)
    second = np.stack([x.real, x.imag], 1).__add__(127.5).round().clip(0, 255).astype('u1')
    with open(path, 'wb') as f:
        for _ in range(seconds): second.tofile(f)
    return seconds*200


def search(path, out):
    "Peak of the resident memory beyond the imports, bytes."
    p = subprocess.run([sys.executable, '-c', RUN, str(path), str(out)], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert p.returncode == 0, p.stderr[-2000:]
    before, after = json.loads(p.stdout.splitlines()[-1])
    return after - before


@pytest.mark.slow # two processes, and half a minute of recordings
def test_memory_does_not_grow_with_the_recording(tmp_path):
    peaks = []
    for seconds in (4, 20):
        bursts = write(tmp_path/'rec.cu8', seconds)
        peaks.append(search(tmp_path/'rec.cu8', tmp_path/'out'))
        boxes = [json.loads(line) for line in open(tmp_path/'out/boxes.jsonl')]
        lengths = np.array([b['t_stop'] - b['t_start'] for b in boxes])
        assert len(boxes) == bursts + 1  # no burst is cut or doubled at the edge of a block, nor is the carrier
        assert lengths.max() == pytest.approx(seconds, abs=.001) and np.median(lengths) == pytest.approx(.002, abs=3e-4)
    grown = os.path.getsize(tmp_path/'rec.cu8')*4/5
    print('peak beyond imports, MB:', [round(p/MB, 1) for p in peaks])
    assert peaks[1] - peaks[0] < .5*grown
