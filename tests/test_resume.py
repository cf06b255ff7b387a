"""A run that is killed (`kill -9`) and resumed ends with the very weights of the run that was left alone.

Real processes, real SIGKILLs: in stage 1, in stage 2, and in the middle of writing a checkpoint. The data are
shuffled, resampled and augmented, the network has dropout and BatchNorm, and training stops early; with and without
mixup, smoothed labels and averaged weights; with one task, and with two whose loss has parameters or a memory of its own.
"""
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

MORE = dict(mixup=.3, ema_decay=.9, label_smoothing=.1)  # further fields of stages 1 and 2


def make_run(folder, more):
    "A small run with everything random that training has; its results."
    from lt_signals.training.fit import run_stages
    ctx, stages = (tasks_run if 'weighting' in more else stages_run)(Path(folder), **more)
    ctx.path, ctx.seed = folder, 3
    with ctx.learn.no_bar(), ctx.learn.no_logging(): return run_stages(ctx, stages, resume=True)


def new_weights(folder):
    "Weights made anew differ in every process: the checkpoint must bring the right ones."
    from lt_signals.core.random import setup_seed
    setup_seed(os.getpid() if (folder/'state.pt').exists() else 1)


def stages_run(folder, **more):
    "Context and three stages of a run on a long tail."
    import numpy as np
    from lt_signals.io.signal_store import SignalStore
    from lt_signals.data.dataloaders import build_dataloaders
    from lt_signals.training.classifier_stages import Stage1, Stage2
    from lt_signals.training.calibration_stage import Stage3
    from lt_signals.training.learner import classifier_learner
    from lt_signals.training.stages import TrainContext

    rng = np.random.default_rng(0)
    y = np.concatenate([np.repeat(np.arange(5), n) for n in ([40, 20, 10, 6, 4], [6]*5, [6]*5)])
    x = np.exp(2j*np.pi*(.03 + .02*y)[:, None]*np.arange(48)) + .7*rng.normal(size=(len(y), 48))
    store = SignalStore.from_arrays(np.stack([x.real, x.imag], 1).astype(np.float32), y)
    split = np.arange(80), np.arange(80, 110), np.arange(110, 140)
    dls = build_dataloaders(store, split=split, batch_size=16, augment=['RandomTimeShift', 'RandomGaussianNoise'])
    new_weights(folder)
    learn = classifier_learner(dls, 'ResNet1D', depth=2, width=4, dropout_rate=.3)
    stages = [Stage1(epochs=6, lr=1e-2, sampler='progressive_power', drw_start=.5, schedule='plateau', patience=4,
                     monitor='valid_loss', loss='CrossEntropy', **more),
              Stage2(mode='lws', epochs=4, lr=1e-1, optimizer='SGD', schedule='cosine_warmup_restarts', **more),
              Stage3(mode='tau_norm')]
    return TrainContext(learn), stages


def tasks_run(folder, weighting):
    "Context and the stage of a run with two tasks."
    from lt_signals.runs.prepare import run_loaders
    from lt_signals.tasks.config import make_run_config
    from lt_signals.tasks.task import RunContext, tasks

    cfg = make_run_config({
        'task': 'amc', 'amc.mods': ['BPSK', 'QPSK', 'GMSK'], 'amc.snr_list': [0, 10], 'amc.n_per': 20, 'amc.length': 48,
        'amc.weighting': weighting, 'data.batch_size': 16, 'data.augment': ['PhaseRotation'], 'training.epochs': 6,
        'training.lr': 1e-2, 'scheduler.patience': 1, 'early_stopping.patience': 4, 'sampling.name': 'sqrt',
        'model.options': dict(depth=2, width=4), 'training.ema_decay': .9, 'training.mixup': .2})
    task, (dls, _) = tasks.create('amc'), run_loaders(cfg, 'cpu')
    new_weights(folder)
    ctx = RunContext(task.learner(cfg, dls), evaluate=task.evaluate, cfg=cfg)
    return ctx, task.stages(cfg)


def kill_at(when):
    "Arrange a SIGKILL of this process: 'stage epoch batch', or 'write n' in the middle of the n-th checkpoint."
    from fastai.callback.core import Callback
    from lt_signals.training.training import Training
    name, *numbers = when.split()
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    if name == 'write':
        count, real = iter(range(1, 1000)), os.replace
        def replace(src, dst):
            if str(dst).endswith('state.pt') and next(count) == int(numbers[0]):
                data = Path(src).read_bytes()
                Path(src).write_bytes(data[:len(data)//2])  # half of it has reached the disk
                die()
            real(src, dst)
        os.replace = replace
        return
    epoch, batch = map(int, numbers)
    def before_batch(self):
        if self.training and (self.epoch, self.iter) == (epoch, batch): die()
    fit = Training.fit
    def fit_and_die(stage, ctx, loss, cbs):
        if stage.name == name: cbs = [*cbs, Callback(before_batch=before_batch)]
        return fit(stage, ctx, loss, cbs)
    Training.fit = fit_and_die


def process(folder, when, more):
    "What one process does: perhaps arrange its end, train, write the results."
    if when: kill_at(when)
    results = make_run(folder, more)
    (folder/'results.json').write_text(json.dumps(results))


def train(folder, when='', more={}):
    "Train in a new process, forked from a server that has done nothing but import; its exit status."
    os.environ['OMP_NUM_THREADS'] = '1'
    ctx = multiprocessing.get_context('forkserver')
    ctx.set_forkserver_preload(['lt_signals.tasks.amc', 'lt_signals.models.iq'])
    p = ctx.Process(target=process, args=(folder, when, more))
    p.start()
    p.join()
    assert p.exitcode in (0, -signal.SIGKILL), f'the training process failed with {p.exitcode}'
    return p.exitcode


def outcome(folder):
    "Weights after every stage as bytes, and the results without their timings."
    results = json.loads((folder/'results.json').read_text())
    for r in results: r.pop('seconds')
    return {r['name']: (folder/f'{r["name"]}.safetensors').read_bytes() for r in results}, results


def check(tmp_path, kills, more={}):
    alone, killed = tmp_path/'alone', tmp_path/'killed'
    assert train(alone, more=more) == 0
    for when in kills: assert train(killed, when, more) == -signal.SIGKILL, f'{when!r} did not kill the run'
    assert train(killed, more=more) == 0
    weights, results = outcome(alone)
    weights2, results2 = outcome(killed)
    for s in weights: assert weights[s] == weights2[s], f'weights after {s} differ'
    assert results == results2
    return results


posix = pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')


@posix
def test_killed_in_stage1_stage2_and_while_writing(tmp_path):
    check(tmp_path, ['stage1 3 2', 'write 3', 'stage2 2 3'])


@posix
@pytest.mark.parametrize('weighting', ['uncertainty', pytest.param('dwa', marks=pytest.mark.slow)])
def test_killed_while_it_learns_two_tasks(tmp_path, weighting):
    "What the loss has learned, or remembers, comes back with the rest; its weights are in the history."
    results = check(tmp_path, ['stage1 3 2', 'write 2'], dict(weighting=weighting))
    weights = [row['modulation_weight'] for row in results[0]['history']]
    assert len(set(weights)) >= len(weights) - 2


@posix
def test_killed_many_times_at_random(tmp_path):
    import random
    draw = random.Random(0)
    kills = [f'stage1 {e} {draw.randrange(4)}' for e in range(1, 6)] + ['write 1', 'write 2']
    kills += [f'stage2 {e} {draw.randrange(4)}' for e in range(4)] + ['write 1', 'write 2']
    check(tmp_path, kills, MORE)

