"""Every kind of store keeps the contract of `Store`.

Usage: python tests/test_stores.py
"""
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch

from lt_signals.data.mixed import MixedStore
from lt_signals.explain.perturbed import Perturbed, write_perturbed
from lt_signals.explain.perturbed_sets import PerturbationDataset
from lt_signals.io.constellation_files import ConstellationDataset
from lt_signals.io.readers import open_signals
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.store import Store
from lt_signals.io.write import write_signals
from lt_signals.synth.channel import awgn_channel
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.synth.plate_sets import synth_plates
from lt_signals.testing import check_reader, check_store
from lt_signals.views.constellation import Constellation
from lt_signals.views.constellation_folders import write_constellations
from lt_signals.views.constellation_sets import SplitHDF5Dataset
from lt_signals.views.crops import CropStore


def children(cls):
    "All classes below one, by name."
    return {c.__name__: c for s in cls.__subclasses__() for c in [s, *children(s).values()]}

def split_folder(folder, frames):
    "The layout of one HDF5 file for each modulation and SNR."
    for k,mod in enumerate(frames.classes):
        for snr in np.unique(frames.meta.snr_db):
            i = np.flatnonzero((frames.labels == k) & (frames.meta.snr_db == snr))
            file = folder/mod/f'SNR_{snr:g}'/f'{mod}_SNR_{snr:g}.h5'
            file.parent.mkdir(parents=True)
            with h5py.File(file, 'w') as f:
                f['X'] = frames.take(i).numpy().transpose(0, 2, 1)
                f['Y'] = np.eye(len(frames.classes), dtype=np.int64)[frames.labels[i]]
                f['Z'] = np.full((len(i), 1), snr)
    return folder

def stores(tmp):
    "A store of every kind, and views and copies of them."
    frames = synth_modulations(['BPSK', '16QAM'], [0, 20], 6, 256, awgn_channel())
    split,render = split_folder(tmp/'split', frames),Constellation(32)
    write_signals(frames, tmp/'frames.h5')
    write_constellations(frames, tmp/'png', render)
    write_constellations(frames, tmp/'images.h5', render)
    write_perturbed(frames, tmp/'perturbed', ['top'], [5], see=render)
    crops,plates = CropStore(torch.rand(9, 1, 16, 16), np.arange(9) % 3 - 1),synth_plates(12, (16, 100))
    pictures = SplitHDF5Dataset(split, render=render)
    yield from (frames, open_signals(tmp/'frames.h5', normalize='rms', target_length=300))
    yield from (SplitHDF5Dataset(split), pictures, pictures.load())
    yield from (ConstellationDataset(tmp/'png'), ConstellationDataset(tmp/'images.h5'))
    yield from (Perturbed(frames, 10), Perturbed(pictures, 10))
    yield PerturbationDataset(tmp/'perturbed', 'top5_blackout')
    yield from (crops, plates, plates.load(), plates.select_classes(plates.classes[::-1]))
    yield MixedStore(frames, torch.randn(3, 2, 256), [0, 1, 1])
    yield MixedStore(plates, plates.take([0, 1]), plates.labels[:2])
    yield MixedStore(crops.load(), crops.take([0, 1]), [0, 1]).subset([10, 1, 3, 9])
    yield frames.relabelled(np.full(len(frames), -1), ['a']).relabelled(frames.labels, list('ab'))


if __name__ == '__main__':
    seen = set()
    with tempfile.TemporaryDirectory() as d:
        for s in stores(Path(d)):
            check_store(s, tol=1e-4)
            seen.add(type(s).__name__)
            print('ok', repr(s))
        check_reader(Path(d)/'frames.h5')
        check_reader(Path(d)/'split')
    ours = {k for k,c in children(Store).items() if c.__module__.startswith('lt_signals.')}
    assert seen == ours, f'not tried: {ours - seen}'
    print(f'{len(seen)} kinds of stores keep the contract: {", ".join(sorted(seen))}')
