"""A run that reads a file batch by batch takes as much memory for a large file as for a small one.

Files of two sizes in the exact layout of RML2018.01A (random numbers in place of signals), each trained in a process of its own.
"""
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != 'posix', reason='needs resource.getrusage')
MB = 2**20

RUN = """
import json, resource, sys, warnings
warnings.simplefilter('ignore')
import lt_signals.models.iq
from lt_signals.io.sources import MappedSource
from lt_signals.tasks.task import Task
from lt_signals.runs.experiment import run_experiment

path, out, most = sys.argv[1:]
MappedSource.most = int(most)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*(1 if sys.platform == 'darwin' else 1024)
before = peak()
run_experiment({'task': 'amc', 'data.path': path, 'out_dir': out, 'progress': False, 'device': 'cpu', 'threads': 1, 'data.batch_size': 64,
                'amc.check_order': False, 'model.options': dict(depth=2, width=4), 'training.epochs': 1, 'visualization.enabled': False})
print(json.dumps([before, peak()]))
"""


def write(path, n_per, length=1024, snrs=(0, 20)):
    "A file with `n_per` frames of each class at each SNR; its size."
    import h5py
    import numpy as np
    n, rng = 24*len(snrs)*n_per, np.random.default_rng(0)
    with h5py.File(path, 'w') as f:
        x = f.create_dataset('X', (n, length, 2), 'float32')
        for i in range(0, n, 4096): x[i:i+4096] = rng.standard_normal((min(4096, n - i), length, 2), np.float32)
        f['Y'] = np.repeat(np.eye(24, dtype=np.int64), len(snrs)*n_per, 0)
        f['Z'] = np.tile(np.repeat(snrs, n_per), 24)[:, None]
    return path.stat().st_size


def peak_memory(path, most):
    "Peak of the resident memory of a run, in bytes: of the process, and beyond what it had after its imports."
    p = subprocess.run([sys.executable, '-c', RUN, str(path), str(path.parent/'runs'), str(most)], capture_output=True, text=True,
                       env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert p.returncode == 0, p.stderr[-2000:]
    before, after = json.loads(p.stdout.splitlines()[-1])
    return after, after - before


def check(tmp_path, sizes, most, tolerance):
    size, peaks = [], []
    for n_per in sizes:
        size.append(write(tmp_path/'frames.h5', n_per))
        peaks.append(peak_memory(tmp_path/'frames.h5', most))
        (tmp_path/'frames.h5').unlink()
    growth = peaks[1][0] - peaks[0][0]
    print(f'files of {size[0]/MB:.0f} and {size[1]/MB:.0f} MB: peaks {[round(p/MB) for p, _ in peaks]} MB, '
          f'{[round(own/MB) for _, own in peaks]} MB of them since the imports')
    assert growth < tolerance, f'{growth/MB:.0f} MB more for {(size[1] - size[0])/MB:.0f} MB more data'
    assert peaks[1][1] < 2**31


@pytest.mark.slow # two processes that import everything
def test_memory_does_not_grow_with_the_file(tmp_path):
    check(tmp_path, (64, 384), 0, 48*MB)


@pytest.mark.slow
def test_memory_with_large_files(tmp_path):
    "As large as it takes for the default: files up to 1 GB are mapped into memory, larger ones read."
    from lt_signals.io.sources import MappedSource
    check(tmp_path, (3072, 6144), MappedSource.most, 150*MB)
