"""An epoch of SignalDL against torch DataLoaders over the same file: mapped into memory, packed, one signal at a time.

The fairest peer for a mapped file is a data set whose `__getitems__` takes a whole batch of a `np.memmap`; for a packed one it unpacks each chunk of a
batch once. All are shuffled anew in each epoch, and files lie in the page cache. Epochs take turns (`turns.py`); a ratio above 1 means ours is faster.
Run: python benchmarks/loading.py [--small]
"""
import argparse, tempfile
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lt_signals.data.loaders import SignalDL
from lt_signals.io.kept import KeptBlocks
from lt_signals.io.readers import open_signals
from turns import one_thread, store, take_turns


class Mapped(Dataset):
    "A batch is one gather of mapped memory, in the order that is asked for or sorted."
    def __init__(self, path, sort=False):
        with h5py.File(path) as f:
            ds, self.labels = f['signals'], f['labels'][:]
            self.x, self.sort = np.memmap(path, ds.dtype, 'r', ds.id.get_offset(), ds.shape), sort

    def __len__(self): return len(self.labels)

    def __getitems__(self, indices):
        i = np.sort(indices) if self.sort else np.asarray(indices)
        return torch.from_numpy(self.x[i]), torch.from_numpy(self.labels[i])


class Chunked(Dataset):
    "A batch unpacks each chunk that it touches once."
    def __init__(self, path):
        self.f = h5py.File(path)
        self.x, self.labels = self.f['signals'], self.f['labels'][:]
        self.k = self.x.chunks[0]

    def __len__(self): return len(self.labels)

    def __getitems__(self, indices):
        i = np.asarray(indices)
        out, chunk = np.empty((len(i), *self.x.shape[1:]), 'f4'), i//self.k
        for c in np.unique(chunk):
            at = np.flatnonzero(chunk == c)
            out[at] = self.x[c*self.k:(c + 1)*self.k][i[at] - c*self.k]
        return torch.from_numpy(out), torch.from_numpy(self.labels[i])


class OneByOne(Dataset):
    "The usual data set: a call for each signal."
    def __init__(self, path):
        self.f = h5py.File(path)
        self.x, self.labels = self.f['signals'], self.f['labels'][:]

    def __len__(self): return len(self.labels)
    def __getitem__(self, i): return torch.from_numpy(self.x[i]), int(self.labels[i])


def write(path, n, length, **kwargs):
    "An HDF5 file of `n` signals, float32 (n, 2, length), of numbers that can be packed somewhat."
    rng = np.random.default_rng(0)
    with h5py.File(path, 'w') as f:
        x = f.create_dataset('signals', (n, 2, length), 'f4', **kwargs)
        for a in range(0, n, 2000):
            k = min(2000, n-a)
            x[a:a+k] = (rng.standard_normal((k, 2, length))*100).round()
        f['labels'] = rng.integers(0, 20, n)


def epoch(dl):
    "A function that goes through a loader once."
    def go():
        for _ in dl: pass
    return go


def torch_loader(data, bs, **kwargs): return DataLoader(data, batch_size=bs, shuffle=True, **kwargs)


def mapped(d, n, length, bs, rounds):
    path = d/'mapped.h5'
    write(path, n, length)
    as_is = dict(collate_fn=lambda b: b)
    ways = {'ours': epoch(SignalDL(open_signals(path), bs=bs, shuffle=True)),
            'ours, in memory': epoch(SignalDL(open_signals(path, in_memory=True), bs=bs, shuffle=True)),
            'memmap, __getitems__': epoch(torch_loader(Mapped(path), bs, **as_is)),
            'memmap, __getitems__, sorted': epoch(torch_loader(Mapped(path, True), bs, **as_is)),
            'ours with a thread (prefetch=2)': epoch(SignalDL(open_signals(path), bs=bs, shuffle=True, prefetch=2))}
    times = take_turns(ways, rounds)
    store(f'mapped file, {length} samples, batches of {bs}', times, fair='memmap, __getitems__', goal=1.2 if length < 1024 else 1.1)


def packed(d, n, length, bs, rounds, rows):
    path = d/f'packed{rows}.h5'
    write(path, n, length, chunks=(rows, 2, length), compression='gzip', compression_opts=1)
    def by_blocks():
        group, share = KeptBlocks.group, KeptBlocks.share
        KeptBlocks.group, KeptBlocks.share = n*length*8//8, 0.  # an eighth of the set at a time
        s = open_signals(path, on_bad='defer')
        s.source._kept._slots, s.source._kept._filled = -(-n//rows//8), 0
        try: epoch(SignalDL(s, bs=bs, shuffle=True))()
        finally: KeptBlocks.group, KeptBlocks.share = group, share
    ways = {'ours': lambda: epoch(SignalDL(open_signals(path, on_bad='defer'), bs=bs, shuffle=True))(),
            'ours, an eighth in memory': by_blocks,
            'h5py, chunk by chunk': epoch(torch_loader(Chunked(path), bs, collate_fn=lambda b: b))}
    times = take_turns(ways, rounds, warm=1)
    store(f'gzip file, {length} samples, chunks of {rows}, first epoch', times, fair='h5py, chunk by chunk', goal=8)
    store(f'gzip file, {length} samples, chunks of {rows}, by blocks', {k: times[k] for k in ('ours, an eighth in memory', 'h5py, chunk by chunk')},
          'ours, an eighth in memory', 'h5py, chunk by chunk', 8)


def one_by_one(d, n, length, bs, rounds):
    path = d/'mapped.h5'
    write(path, n, length)
    store(f'mapped file, {length} samples, the usual data set', take_turns({'ours': epoch(SignalDL(open_signals(path), bs=bs, shuffle=True)),
          'h5py, __getitem__': epoch(torch_loader(OneByOne(path), bs))}, rounds, warm=1))


def main(n, rounds):
    one_thread()
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        for length in (128, 1024):
            for bs in (64, 256): mapped(d, n, length, bs, rounds)
        one_by_one(d, n//6, 128, 64, 3)
        for rows in (16, 64): packed(d, n//3, 1024, 64, 2, rows)


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    a.add_argument('--small', action='store_true', help='few signals and rounds')
    main(*((12_000, 9) if a.parse_args().small else (24_000, 25)))
