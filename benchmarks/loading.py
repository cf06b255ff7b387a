"""Batches per second of SignalDL against a torch DataLoader that reads one sample at a time from the same file.

Run: python benchmarks/loading.py [--small]
"""
import argparse, os, platform, tempfile, time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lt_signals.io.readers import open_signals
from lt_signals.data.loaders import SignalDL


class OneByOne(Dataset):
    "The usual data set: opens the file once in each worker and reads one sample a call."
    def __init__(self, path):
        self.path, self.x = path, None
        with h5py.File(path) as f: self.labels = f['labels'][:]

    def __len__(self): return len(self.labels)

    def __getitem__(self, i):
        if self.x is None: self.x = h5py.File(self.path)['signals']
        return torch.from_numpy(self.x[i]), int(self.labels[i])


def write(path, n, length, **kwargs):
    "An HDF5 file of `n` signals, float32 (n, 2, length)."
    rng = np.random.default_rng(0)
    with h5py.File(path, 'w') as f:
        x = f.create_dataset('signals', (n, 2, length), 'f4', **kwargs)
        for a in range(0, n, 2000):
            k = min(2000, n-a)
            x[a:a+k] = (rng.standard_normal((k, 2, length))*100).round()
        f['labels'] = rng.integers(0, 20, n)


def rate(dl, batches, rounds=3):
    "Batches per second: the best of some rounds, each after three batches of warm-up."
    best = 0.
    for _ in range(rounds):
        done = -3
        while done < batches:
            for x, y in dl:
                done += 1
                if done == 0: t = time.perf_counter()
                if done == batches: break
        if x.is_cuda: torch.cuda.synchronize()
        best = max(best, batches/(time.perf_counter() - t))
    return best


def compare(name, path, bs, batches, slow_batches):
    "One file: the plain loader, SignalDL from disk, SignalDL resident."
    kw = dict(batch_size=bs, shuffle=True)
    plain = rate(DataLoader(OneByOne(path), num_workers=2, persistent_workers=True, **kw), slow_batches)
    disk = rate(SignalDL(open_signals(path), bs=bs, shuffle=True), batches)
    held = rate(SignalDL(open_signals(path, in_memory=True), bs=bs, shuffle=True), batches)
    for what, r in (('DataLoader, one by one, 2 workers', plain), ('SignalDL, from the file', disk),
                    ('SignalDL, resident in memory', held)):
        print(f'{name:24}{what:36}{r:10.1f}{r/plain:9.1f}x')
    if torch.cuda.is_available():
        store = open_signals(path, device='cuda')
        r = rate(SignalDL(store, bs=bs, shuffle=True), batches)
        print(f'{name:24}{"SignalDL, resident on the GPU":36}{r:10.1f}{r/plain:9.1f}x')
    return disk/plain, held/plain


def main(n, lengths=(128, 512, 1024), bs=256):
    torch.set_num_threads(1)  # a gather is bound by memory; the other cores belong to the training step
    gpu = f', {torch.cuda.get_device_name()}' if torch.cuda.is_available() else ''
    print(f'{os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} torch threads{gpu}, '
          f'Python {platform.python_version()}, torch {torch.__version__}, h5py {h5py.__version__}')
    print(f'{n:,} signals of (2, time) float32, batches of {bs}, shuffled; files in the page cache\n')
    print(f'{"file":24}{"loader":36}{"batches/s":>10}{"ratio":>10}')
    ratios = {}
    with tempfile.TemporaryDirectory() as d:
        path = Path(d)/'signals.h5'
        for length in lengths:
            write(path, n, length)
            ratios[length] = compare(f'contiguous, time {length}', path, bs, 300, 40)
        write(path, n//4, length, chunks=(16, 2, length), compression='gzip', compression_opts=1)
        compare(f'gzip, time {length}', path, bs, 40, 10)
    print('\ncontiguous (wanted: 10x from the file, 25x resident): '
          + ', '.join(f'time {k}: {disk:.1f}x and {held:.1f}x' for k, (disk, held) in ratios.items()))


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--small', action='store_true', help='4,000 signals')
    main(4_000 if a.parse_args().small else 24_000)
