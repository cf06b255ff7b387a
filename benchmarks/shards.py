"""Sets of many files: HDF5 shards (ours), Zarr and WebDataset, for what training does: a shuffled epoch in batches.

Zarr is read through `oindex` and sorted, a batch at a time. WebDataset cannot take single signals: it reads tar files from end to end, with a shuffle
buffer. What is not installed is left out (`pip install zarr webdataset`). Epochs take turns (`turns.py`).
Run: python benchmarks/shards.py [--small]
"""
import argparse, io, random, tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lt_signals.data.loaders import SignalDL
from lt_signals.io.readers import open_signals
from lt_signals.io.shards import write_shards
from lt_signals.io.signal_store import SignalStore
from turns import one_thread, store, take_turns


def epoch(make):
    def go():
        for _ in make(): pass
    return go


class Zarr(Dataset):
    "A batch is one selection of rows."
    def __init__(self, path):
        import zarr
        self.x = zarr.open_array(path, mode='r')

    def __len__(self): return self.x.shape[0]
    def __getitems__(self, indices): return torch.from_numpy(self.x.oindex[np.sort(indices)])


def write_zarr(path, x, rows, **kwargs):
    import zarr
    z = zarr.create_array(path, shape=x.shape, chunks=(rows, *x.shape[1:]), dtype='f4', **kwargs)
    z[:] = x


def write_tars(folder, x, y, per):
    "Tar files with an array and a number for each signal, as WebDataset wants them."
    import webdataset as wds
    with wds.ShardWriter(f'{folder}/%05d.tar', maxcount=per, verbose=0) as sink:
        for i, (a, c) in enumerate(zip(x, y)): sink.write({'__key__': f'{i:08d}', 'npy': a, 'cls': int(c)})
    return sorted(map(str, Path(folder).glob('*.tar')))


def tars(files, bs):
    import webdataset as wds
    def array(sample): return np.load(io.BytesIO(sample['npy'])), int(sample['cls'])
    def go():
        random.shuffle(files)
        return wds.WebDataset(files, shardshuffle=False, empty_check=False).shuffle(2000).map(array).batched(bs)
    return go


def main(n, length, bs, rounds):
    one_thread()
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, 2, length))*100).round().astype(np.float32), rng.integers(0, 20, n)
    own = SignalStore.from_arrays(x, y, layout='nct')
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        write_shards(own, d/'plain', n//8*8*length)
        write_shards(own, d/'packed', n//8*8*length, compress=True)
        plain = {'ours': epoch(lambda: SignalDL(open_signals(d/'plain', on_bad='defer'), bs=bs, shuffle=True))}
        packed = {'ours': epoch(lambda: SignalDL(open_signals(d/'packed', on_bad='defer'), bs=bs, shuffle=True))}
        if find_spec('zarr'):
            write_zarr(d/'one.zarr', x, 1, compressors=None, shards=(n//8, 2, length))
            write_zarr(d/'packed.zarr', x, 16)
            for ways, name in ((plain, 'one.zarr'), (packed, 'packed.zarr')):
                ways['Zarr 3'] = epoch(lambda p=d/name: DataLoader(Zarr(p), batch_size=bs, shuffle=True, collate_fn=lambda b: b))
        if find_spec('webdataset'):
            (d/'tars').mkdir()
            plain['WebDataset, buffer of 2,000'] = epoch(tars(write_tars(d/'tars', x, y, n//8), bs))
        for what, ways in (('plain', plain), ('packed', packed)):
            if len(ways) > 1: store(f'8 shards, {what}, {length} samples', take_turns(ways, rounds, warm=1), fair=[*ways][1])


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    a.add_argument('--small', action='store_true', help='few signals and rounds')
    main(*((2_000, 1024, 64, 3) if a.parse_args().small else (16_000, 1024, 64, 9)))
