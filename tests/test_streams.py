"""Training on signals that are made meanwhile: none comes twice, processes share them, a run goes on where it was stopped."""
import numpy as np
import pytest
import torch

from lt_signals.data.loaders import SignalDL
from lt_signals.synth.streams import modulation_stream


def make(n_per=(12, 4, 4), **kwargs):
    return modulation_stream(['BPSK', '16QAM', 'FM'], [0, 10], n_per, 64, seed=5, **kwargs)


def drawn(dl):
    "All signals of a pass, as bytes, in order."
    return [row.numpy().tobytes() for x, _ in dl for row in x.as_subclass(torch.Tensor)]


def parts(store): return [np.flatnonzero(store.meta.part == p) for p in ('train', 'valid', 'test')]


def test_no_signal_comes_twice():
    "Neither in an epoch nor in another one; validation is the same each time."
    store = make()
    train, valid, _ = parts(store)
    dl = SignalDL(store, train, bs=16, sampler='none')
    seen = [s for _ in range(4) for s in drawn(dl)]
    assert len(seen) == len(set(seen)) == 4*len(train)
    check = SignalDL(store, valid, bs=16)
    assert drawn(check) == drawn(check)


def test_a_signal_does_not_depend_on_its_batch():
    "Batch size, thread and order change nothing about the signals of an epoch."
    store = make()
    train = parts(store)[0]
    passes = []
    for bs, prefetch, sampler in ((16, 0, 'none'), (7, 2, 'none'), (100, None, None)):
        dl = SignalDL(store, train, bs=bs, sampler=sampler, prefetch=prefetch)
        dl.set_epoch(2)
        passes.append(sorted(drawn(dl)))
    assert passes[0] == passes[1] == passes[2]


def test_processes_share_a_stream():
    "Each of three processes draws others, and together they draw what one would."
    store = make()
    train = parts(store)[0]
    loader = lambda **kw: SignalDL(store, train, bs=8, sampler='none', **kw)
    for epoch in (0, 1):
        ranks = [loader(rank=r, world_size=3) for r in range(3)]
        one = loader()
        for dl in (*ranks, one): dl.set_epoch(epoch)
        shares = [drawn(dl) for dl in ranks]
        assert sorted(sum(shares, [])) == sorted(drawn(one))


class Stopped(Exception): pass


def run(folder, stop_at=None, **overrides):
    "Train on a stream, perhaps until a batch of an epoch; the weights."
    from fastai.callback.core import Callback
    from lt_signals.runs.prepare import build_run
    from lt_signals.tasks.config import make_run_config
    from lt_signals.training.fit import run_stages

    def before_batch(self):
        if self.training and (self.epoch, self.iter) == stop_at: raise Stopped('here')
    cfg = make_run_config(overrides, {'data.stream': True, 'device': 'cpu', 'data.batch_size': 16, 'training.epochs': 3})
    ctx, stages = build_run(cfg)
    ctx.learn.add_cb(Callback(before_batch=before_batch))
    ctx.path = folder
    with ctx.learn.no_bar(), ctx.learn.no_logging(): run_stages(ctx, stages, resume=True)
    return ctx.learn.model.state_dict()


amc = {'task': 'amc', 'amc.mods': ['BPSK', 'GMSK'], 'amc.snr_list': [0, 10], 'amc.n_per': 16, 'amc.length': 48,
       'model.options': dict(depth=2, width=4), 'data.augment': ['PhaseRotation']}
emitter = {'task': 'emitter', 'synth.n_classes': 3, 'synth.n_max': 16, 'synth.n_valid': 3, 'synth.n_test': 3, 'stages': ['stage1'],
           'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=4), 'data.target_length': 128}


@pytest.mark.parametrize('task', [amc, emitter], ids=['amc', 'emitter'])
def test_a_run_goes_on_bit_for_bit(tmp_path, task):
    whole = run(tmp_path/'whole', **task)
    with pytest.raises(Stopped): run(tmp_path/'broken', (2, 0), **task)
    again = run(tmp_path/'broken', **task)
    for k in whole: assert torch.equal(whole[k], again[k]), k


def test_a_path_and_a_stream_are_refused(tmp_path):
    from lt_signals.core.errors import ConfigError
    from lt_signals.runs.prepare import run_loaders
    from lt_signals.tasks.config import make_run_config
    with pytest.raises(ConfigError, match='give one of the two'):
        run_loaders(make_run_config({'task': 'amc', 'data.stream': True, 'data.path': 'x.h5'}), 'cpu')
    with pytest.raises(ConfigError, match='amc'):
        run_loaders(make_run_config({'task': 'defects', 'data.stream': True}), 'cpu')
