"""Shards are one file in many: the same batches, the same training over processes, block by block where a set is large."""
import os

import h5py
import numpy as np
import pytest
import torch

from lt_signals.data.loaders import SignalDL
from lt_signals.io.kept import KeptBlocks
from lt_signals.io.readers import open_signals
from lt_signals.io.shards import write_shards
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.write import write_signals
from test_distributed import assert_same, launch, outcome, pytestmark as needs_processes


def make():
    "A long tail of 140 noisy waves."
    rng = np.random.default_rng(0)
    y = np.concatenate([np.repeat(np.arange(5), n) for n in ([40, 20, 10, 6, 4], [6]*5, [6]*5)])
    x = np.exp(2j*np.pi*(.03 + .02*y)[:, None]*np.arange(48)) + .7*rng.normal(size=(len(y), 48))
    return SignalStore.from_arrays(np.stack([x.real, x.imag], 1).astype(np.float32), y, [f'class {k}' for k in range(5)])


def train_from(path, folder):
    "Three epochs of stage 1 and a second stage, with all that is random, over the processes there are."
    from lt_signals.core.random import setup_seed
    from lt_signals.data.dataloaders import build_dataloaders
    from lt_signals.training.classifier_stages import Stage1, Stage2
    from lt_signals.training.learner import classifier_learner
    from test_distributed import train

    split = np.arange(80), np.arange(80, 110), np.arange(110, 140)
    dls = build_dataloaders(str(path), split=split, batch_size=8, in_memory=False, device='cpu')
    setup_seed(1 + int(os.environ['RANK']))
    learn = classifier_learner(dls, 'ResNet1D', depth=2, width=4)
    train(learn, [Stage1(epochs=3, sampler='sqrt'), Stage2(mode='crt', epochs=1)], folder)


@needs_processes
def test_two_processes_train_from_shards_as_from_one_file(tmp_path):
    "Bit for bit."
    store = make()
    write_signals(store, tmp_path/'one.h5')
    write_shards(store, tmp_path/'many', 16*store.sample_bytes)
    found = {}
    for name in ('one.h5', 'many'):
        folder = tmp_path/f'of {name}'
        folder.mkdir()
        assert launch(2, train_from, tmp_path/name, folder) == [0, 0]
        assert_same(folder)
        found[name] = outcome(folder)
    (weights, results), (weights2, results2) = found.values()
    assert results == results2
    for k in weights: assert (weights[k] == weights2[k]).all(), k


def packed(path, n=4000, chunk=16):
    "A packed file whose signals tell their number, sorted by class; the labels."
    y = np.repeat(np.arange(4), [n//2, n//4, n//8, n//8])
    x = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, 2, 16))
    with h5py.File(path, 'w') as f:
        f.create_dataset('signals', data=x, chunks=(chunk, 2, 16), compression='gzip', compression_opts=1)
        f['labels'] = y
    return y


def numbers(dl): return np.concatenate([x.as_subclass(torch.Tensor)[:, 0, 0].long().numpy() for x, _ in dl])


@pytest.mark.parametrize('sampler', ['none', 'class_uniform', 'inv_freq'])
def test_a_large_packed_set_is_shuffled_by_blocks(tmp_path, monkeypatch, sampler):
    "The same draws as of a small set; a few chunks at a time; seeded; shared by processes."
    y = packed(tmp_path/'x.h5')
    small = SignalDL(open_signals(tmp_path/'x.h5'), bs=32, sampler=sampler)
    free = numbers(small)
    monkeypatch.setattr(KeptBlocks, 'group', 40*16*2*16*4) # bytes of 40 of 250 chunks
    monkeypatch.setattr(KeptBlocks, 'share', 0.)
    loader = lambda **kw: SignalDL(open_signals(tmp_path/'x.h5'), bs=32, sampler=sampler, **kw)
    dl = loader()
    got = numbers(dl)
    assert sorted(got) == sorted(free) and (got != free).any()
    visits = [len(set(part//16)) for part in np.array_split(got, max(1, len(got)//640))]
    assert max(visits) <= 2*40 < len(set(free[:640]//16))
    again = loader()
    assert (numbers(again) == got).all() and (numbers(dl) != got).any() # an epoch repeats, the next one differs
    ranks = [numbers(loader(rank=r, world_size=2)) for r in (0, 1)]
    assert (np.stack(ranks, 1).ravel() == got).all()
    assert np.bincount(y[got], minlength=4).tolist() == np.bincount(y[free], minlength=4).tolist()


def test_chunks_are_unpacked_once(tmp_path, monkeypatch):
    "A shuffled epoch unpacks each chunk once where they fit, and each once where they do not, block by block."
    from lt_signals.io.hdf5 import ChunkedSource
    packed(tmp_path/'x.h5')
    seen, unpack = [], ChunkedSource._unpack
    monkeypatch.setattr(ChunkedSource, '_unpack', lambda self, a, b: (seen.append(a), unpack(self, a, b))[1])
    dl = SignalDL(open_signals(tmp_path/'x.h5'), bs=32, sampler='none')
    assert dl.store.slow
    for _ in range(2): numbers(dl)
    assert len(seen) == len(set(seen)) == 250 and not dl.store.slow
    assert 'stays in memory' in dl.store.source.held
    seen.clear()
    monkeypatch.setattr(KeptBlocks, 'group', 40*16*2*16*4)
    monkeypatch.setattr(KeptBlocks, 'share', 1e-12)
    large = SignalDL(open_signals(tmp_path/'x.h5'), bs=32, sampler='none')
    large.store.source._kept._slots, large.store.source._kept._filled = 45, 0
    numbers(large)
    assert len(seen) < 1.5*250 and 'shuffled by blocks' in large.store.source.held


@pytest.mark.parametrize('address', ['packed', 'memory://bucket/large'])
def test_a_large_set_is_shuffled_by_shards(tmp_path, monkeypatch, address):
    "Two shards at a time; each chunk is unpacked once; no more shards are held open than of two groups."
    from lt_signals.io.hdf5 import ChunkedSource
    x = np.broadcast_to(np.arange(960, dtype=np.float32)[:, None, None], (960, 2, 16))
    store = SignalStore.from_arrays(x, np.arange(960)//240, layout='nct')
    path = address if '://' in address else str(tmp_path/address)
    monkeypatch.setattr('lt_signals.io.shards.chunk_bytes', 10*store.sample_bytes)
    write_shards(store, path, 80*store.sample_bytes, compress=True)
    monkeypatch.setattr(KeptBlocks, 'group', 2*80*store.sample_bytes)
    seen, unpack = [], ChunkedSource._unpack
    monkeypatch.setattr(ChunkedSource, '_unpack', lambda self, a, b: (seen.append((self.path, a)), unpack(self, a, b))[1])
    how = dict(cache=str(tmp_path/'cache')) if '://' in path else {}
    dl = SignalDL(open_signals(path, on_bad='defer', **how), bs=16, sampler='none')
    got = numbers(dl)
    assert sorted(got) == list(range(960)) and len(seen) == len(set(seen)) == 96
    assert all(len(set(part//80)) == 2 for part in np.split(got, 6))
    assert dl.store.source.max_open == 4 and dl.store.slow


def test_a_foreign_order_is_told_what_it_costs(tmp_path, monkeypatch):
    packed(tmp_path/'x.h5')
    monkeypatch.setattr(KeptBlocks, 'group', 2**12)
    with pytest.warns(UserWarning, match='a batch unpacks up to 32'):
        SignalDL(open_signals(tmp_path/'x.h5'), bs=32, sampler=torch.utils.data.RandomSampler(range(4000)))


def test_a_task_trains_on_shards_at_an_address(tmp_path):
    "A configuration names the address; splits, samplers and scores are those of any set."
    from lt_signals.runs.prepare import run_loaders
    from lt_signals.synth.frame_sets import synth_modulations
    from lt_signals.tasks.config import make_run_config
    frames = synth_modulations(['BPSK', 'GMSK', 'FM'], [0, 10], 20, 48)
    write_shards(frames, 'memory://bucket/frames', 32*frames.sample_bytes)
    cfg = make_run_config({'task': 'amc', 'data.path': 'memory://bucket/frames', 'data.options': dict(cache=str(tmp_path)),
                           'device': 'cpu'})
    dls, _ = run_loaders(cfg, 'cpu')
    assert [len(dl.indices) for dl in dls.loaders] == [96, 12, 12] and dls.store.path == 'memory://bucket/frames'
    x, *_ = dls.train.one_batch()
    assert x.shape == (32, 2, 48)
