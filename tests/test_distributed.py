"""Processes on the CPU (gloo) train as one process does, leave nothing out, end alike, write once, resume, and do not hang.

Real processes, forked from a server that has done nothing but import. What two processes can show one after the other they do in one group
(`ends`); with `-m slow` also four processes, processes that are killed, and `torchrun … lts_train`.
"""
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

dist = pytest.importorskip('torch.distributed', reason='this torch has no torch.distributed')
pytestmark = pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available() and os.name == 'posix'),
                                reason='needs torch.distributed with gloo, and POSIX processes')
SECONDS = 300  # a process that takes longer hangs
PRELOAD = ['lt_signals.tasks.amc', 'lt_signals.models.iq', 'lt_signals.runs.prepare', 'lt_signals.training.adversarial', 'torch._dynamo']


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def child(rank, n, port, target, args):
    "Be one of `n` processes, as a launcher would have it."
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n), MASTER_ADDR='127.0.0.1',
                      MASTER_PORT=str(port), OMP_NUM_THREADS='1')
    target(*args)


def launch(n, target, *args):
    "Run `target(*args)` in `n` processes; their exit codes."
    os.environ['OMP_NUM_THREADS'] = '1'
    ctx = multiprocessing.get_context('forkserver')
    ctx.set_forkserver_preload(PRELOAD)
    port = free_port()
    ps = [ctx.Process(target=child, args=(r, n, port, target, args)) for r in range(n)]
    for p in ps: p.start()
    for p in ps: p.join(SECONDS)
    hanging = [p for p in ps if p.is_alive()]
    for p in hanging: p.kill()
    assert not hanging, 'a process hangs'
    return [p.exitcode for p in ps]


def make_learner(bs, **options):
    "A learner on a small long tail of noisy waves, 80 training signals."
    import numpy as np
    from lt_signals.core.random import setup_seed
    from lt_signals.io.signal_store import SignalStore
    from lt_signals.data.dataloaders import build_dataloaders
    from lt_signals.training.learner import classifier_learner

    augment = options.pop('augment', [])
    rng = np.random.default_rng(0)
    y = np.concatenate([np.repeat(np.arange(5), n) for n in ([40, 20, 10, 6, 4], [6]*5, [6]*5)])
    x = np.exp(2j*np.pi*(.03 + .02*y)[:, None]*np.arange(48)) + .7*rng.normal(size=(len(y), 48))
    meta = dict(receiver=rng.choice(['a', 'b', 'c'], len(y)))
    store = SignalStore.from_arrays(np.stack([x.real, x.imag], 1).astype(np.float32), y, meta=meta)
    split = np.arange(80), np.arange(80, 110), np.arange(110, 140)
    dls = build_dataloaders(store, split=split, batch_size=bs, augment=augment, device='cpu')
    setup_seed(1 + int(os.environ['RANK']))  # each process with other weights: those of the first count
    return classifier_learner(dls, 'ResNet1D', depth=2, width=4, **options)


def train(learn, stages, folder, cbs=()):
    "Train in stages with the other processes; write down how this one ended."
    from lt_signals.training.checkpoint import save_weights
    from lt_signals.training.fit import fit_stages

    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx():
        results = fit_stages(learn, stages, path=folder/'run', resume=True, seed=3, cbs=list(cbs))
    for r in results: r.pop('seconds')
    rank = os.environ['RANK']
    save_weights(learn, folder/f'{rank}.safetensors')
    (folder/f'{rank}.json').write_text(json.dumps(results))


def outcome(folder, rank=0):
    "Weights and results of one process at its end."
    from safetensors.numpy import load_file
    return load_file(folder/f'{rank}.safetensors'), json.loads((folder/f'{rank}.json').read_text())


def assert_same(folder):
    "Both processes ended with the same weights, bit for bit, and the same results."
    (w0, r0), (w1, r1) = outcome(folder, 0), outcome(folder, 1)
    assert r0 == r1
    for k in w0: assert (w0[k] == w1[k]).all(), f'{k} differs'


def train_without_chance(folder, bs):
    "No dropout, no augmentation, no BatchNorm: how the epochs are shared is all that differs."
    from fastai.callback.core import Callback
    from lt_signals.training.classifier_stages import Stage1, Stage2
    from lt_signals.training.calibration_stage import Stage3

    drawn = []
    def before_train(self): drawn.append(self.dls.train.get_idxs().tolist())
    learn = make_learner(bs, norm_kind='gn', dropout_rate=0.)
    common = dict(optimizer='SGD', weight_decay=0., warmup_epochs=0., sampler='progressive_balanced')
    stages = [Stage1(epochs=2, lr=.05, **common), Stage2(mode='crt', epochs=1, lr=.05, optimizer='SGD'), Stage3()]
    train(learn, stages, folder, [Callback(before_train=before_train)])
    (folder/f'drawn{os.environ["RANK"]}.json').write_text(json.dumps(drawn))


def scores_of(folder, weights):
    "What one process says of weights, as `fit_stages` would after a stage."
    from lt_signals.training.checkpoint import load_weights
    from lt_signals.training.fit import evaluate_stage
    from lt_signals.training.stages import TrainContext

    learn = make_learner(8, norm_kind='gn', dropout_rate=0.)
    load_weights(learn, weights)
    with learn.no_bar(), learn.no_logging(): rows = evaluate_stage(TrainContext(learn))['rows']
    (folder/'scores.json').write_text(json.dumps(rows))


def against_receivers(folder, bs):
    "A critic beside the model, outside of what torch averages; its weights at the end."
    import torch
    from fastai.callback.core import Callback
    from lt_signals.training.adversarial import Adversarial, DomainAdversary

    kept = {}
    def after_epoch(self): kept.update(next(cb for cb in self.learn.cbs if isinstance(cb, DomainAdversary)).critic.state_dict())
    stage = Adversarial(epochs=2, lr=.05, optimizer='SGD', weight_decay=0., warmup_epochs=0.)
    train(make_learner(bs, norm_kind='gn', dropout_rate=0.), [stage], folder, [Callback(after_epoch=after_epoch)])
    torch.save({k: v.clone() for k, v in kept.items()}, folder/f'critic{os.environ["RANK"]}.pt')


def in_two(folder):
    "What two processes do, in one group, one after the other."
    for name, f, args in plan(8): f(folder/name, *args)
    share_epochs(folder/'share', 61)
    one_step(folder/'step')
    train_with_everything(folder/'everything')
    stumble(folder/'nan', 'nan')


def in_one(folder, two):
    "The same in one process, with batches twice as large."
    for name, f, args in plan(16): f(folder/name, *args)
    one_step(folder/'step')
    scores_of(folder, two/'stages'/'0.safetensors')


def plan(bs):
    "Trainings that do not depend on the number of processes: folder, function, further arguments."
    return [('stages', train_without_chance, (bs,)), ('pcgrad', train_two_tasks, (bs, 'pcgrad')),
            ('against', against_receivers, (bs,))]


@pytest.fixture(scope='module')
def ends(tmp_path_factory):
    "Folders of what two processes have done, and one."
    two, one = tmp_path_factory.mktemp('two'), tmp_path_factory.mktemp('one')
    for name in ('stages', 'pcgrad', 'against', 'share', 'step', 'everything', 'nan'):
        for folder in (two, one): (folder/name).mkdir()
    assert launch(2, in_two, two) == [3, 3]  # `stumble` ends so
    assert launch(1, in_one, one, two) == [0]
    return two, one


def test_two_processes_train_as_one(ends):
    "Same draws in the same batches, so the same weights after stage 1, cRT and τ-normalisation."
    import numpy as np
    two, one = (folder/'stages' for folder in ends)
    assert_same(two)
    parts = [json.loads((two/f'drawn{r}.json').read_text()) for r in (0, 1)]
    whole = json.loads((one/'drawn0.json').read_text())
    assert len(whole) == 3  # epochs of both stages
    for a, b, c in zip(*parts, whole): assert np.stack([a, b], 1).ravel().tolist() == c
    (weights, results), (weights1, results1) = outcome(two), outcome(one)
    for k in weights: np.testing.assert_allclose(weights[k], weights1[k], atol=2e-5, err_msg=k)
    for a, b in zip(results, results1):
        assert (a['best_epoch'], a.get('rows')) == (b['best_epoch'], b.get('rows'))
        for x, y in zip(a['history'], b['history']): assert x == pytest.approx(y, abs=1e-4)
    assert {p.name for p in (two/'run').iterdir()} == {p.name for p in (one/'run').iterdir()}


def test_the_evaluation_of_two_is_that_of_one(ends):
    "Each process looks at every sample: the scores of the same weights are the same to the last bit."
    two, one = ends
    assert json.loads((one/'scores.json').read_text()) == outcome(two/'stages')[1][-1]['rows']


def test_a_critic_learns_as_in_one_process(ends):
    import numpy as np
    import torch
    two, one = (folder/'against' for folder in ends)
    assert_same(two)
    a, b, c = (torch.load(f) for f in (two/'critic0.pt', two/'critic1.pt', one/'critic0.pt'))
    for k in a:
        assert torch.equal(a[k], b[k]), f'{k} differs between the processes'
        torch.testing.assert_close(a[k], c[k], atol=2e-5, rtol=1e-4, msg=k)
    weights, weights1 = outcome(two)[0], outcome(one)[0]
    for k in weights: np.testing.assert_allclose(weights[k], weights1[k], atol=2e-5, err_msg=k)


def share_epochs(folder, n):
    "Train on `n` signals; write down what was drawn, and the scores of every epoch with those of a look at all samples."
    import numpy as np
    import torch
    from fastai.callback.core import Callback
    from fastai.losses import CrossEntropyLossFlat
    from fastai.metrics import accuracy
    from fastai.optimizer import SGD
    from torch import nn
    from lt_signals.data.dataloaders import SignalDataLoaders
    from lt_signals.data.loaders import SignalDL
    from lt_signals.io.signal_store import SignalStore
    from lt_signals.training.callbacks import SetEpoch
    from lt_signals.training.distributed import SignalLearner

    rng, seen = np.random.default_rng(0), []
    y = rng.integers(0, 3, n)
    z = np.exp(2j*np.pi*(.05 + .1*y)[:, None]*np.arange(32)) + rng.normal(size=(n, 32))
    x = np.stack([z.real, z.imag, np.broadcast_to(np.arange(n)[:, None], z.shape)], 1).astype(np.float32)  # and its number
    store = SignalStore.from_arrays(x, y, layout='nct')
    class Net(nn.Sequential):
        def forward(self, x): return super().forward(x[:, :2])
    def after_batch(self):
        if self.training: seen.append((self.epoch, self.xb[0][:, 2, 0].long().tolist()))
    world = int(os.environ['WORLD_SIZE'])
    dls = SignalDataLoaders(SignalDL(store, bs=16//world, sampler='none', drop_last=True, device='cpu'),
                            SignalDL(store, bs=10, device='cpu'))
    torch.manual_seed(int(os.environ['RANK']))
    model = Net(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    learn = SignalLearner(dls, model, CrossEntropyLossFlat(), opt_func=SGD, metrics=accuracy,
                          cbs=[SetEpoch(), Callback(after_batch=after_batch)])
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx(): learn.fit(2, .1)
    with torch.no_grad(): mine = (model(store.take(range(n))).argmax(1).numpy() == y).mean()
    rows = [[float(v) for v in row] for row in learn.recorder.values]
    (folder/f'{os.environ["RANK"]}.json').write_text(json.dumps(dict(seen=seen, rows=rows, mine=mine)))


def check_shares(folder, n, world):
    "Each signal once an epoch, as many batches for each process, scores over all validation signals and alike."
    told = [json.loads((folder/f'{r}.json').read_text()) for r in range(world)]
    for epoch in (0, 1):
        drawn = [[b for e, b in t['seen'] if e == epoch] for t in told]
        seen = sorted(i for batches in drawn for b in batches for i in b)
        if world > 1: assert seen == list(range(n))
        else: assert len(seen) == len(set(seen)) == n//16*16  # one process leaves out the last, smaller batch
        assert len({len(b) for b in drawn}) == 1
    for t in told:
        assert t['rows'] == told[0]['rows'] and t['mine'] == told[0]['mine']
        assert t['rows'][-1][-1] == pytest.approx(t['mine'], abs=1e-6)


def test_every_signal_is_seen_once_an_epoch(ends): check_shares(ends[0]/'share', 61, 2)


@pytest.mark.slow
@pytest.mark.parametrize('n', [61, 97])
def test_every_signal_is_seen_once_an_epoch_by_four(tmp_path, n):
    assert launch(4, share_epochs, tmp_path, n) == [0]*4
    check_shares(tmp_path, n, 4)


def one_step(folder):
    "A step on 11 signals in one batch, shared or not; the weights."
    import torch
    from fastai.losses import CrossEntropyLossFlat
    from fastai.optimizer import SGD
    from torch import nn
    from lt_signals.data.dataloaders import SignalDataLoaders
    from lt_signals.data.loaders import SignalDL
    from lt_signals.io.signal_store import SignalStore
    from lt_signals.training.distributed import SignalLearner

    torch.manual_seed(0)
    store = SignalStore.from_arrays(torch.randn(11, 2, 8).numpy(), list(range(3))*3 + [0, 0], layout='nct')
    world = int(os.environ['WORLD_SIZE'])
    dls = SignalDataLoaders(SignalDL(store, bs=-(-12//world), sampler='none', device='cpu'), SignalDL(store, device='cpu'))
    learn = SignalLearner(dls, nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), CrossEntropyLossFlat(), opt_func=SGD)
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx(): learn.fit(1, 1.)
    torch.save((learn.model.state_dict(), float(learn.recorder.values[0][0])), folder/f'{world}{os.environ["RANK"]}.pt')


def check_step(many, one):
    import torch
    (shared, loss), (whole, loss1) = (torch.load(f) for f in (many, one))
    for k in whole: torch.testing.assert_close(shared[k], whole[k], atol=1e-6, rtol=1e-5)
    assert loss == pytest.approx(loss1, abs=1e-5)


def test_uneven_shares_weigh_by_their_signals(ends):
    "6 and 5 signals: the gradient is the mean over 11, not the mean of two means."
    check_step(ends[0]/'step'/'20.pt', ends[1]/'step'/'10.pt')


@pytest.mark.slow
def test_three_uneven_shares_weigh_by_their_signals(tmp_path):
    assert launch(3, one_step, tmp_path) == [0]*3 and launch(1, one_step, tmp_path) == [0]
    check_step(tmp_path/'30.pt', tmp_path/'10.pt')


def lose_one(folder, how):
    "The second of three processes is killed, or stands still, in the second epoch; the others write down what they are told."
    from fastai.callback.core import Callback
    from lt_signals.core.errors import LTSError
    from lt_signals.training.classifier_stages import Stage1

    sys.stderr = open(folder/f'said{os.environ["RANK"]}', 'w', buffering=1)
    def before_batch(self):
        if self.training and self.epoch == 1 and os.environ['RANK'] == '1': os.kill(os.getpid(), how)
    try: train(make_learner(8), [Stage1(epochs=4)], folder, [Callback(before_batch=before_batch)])
    except LTSError as e:
        print(e, file=sys.stderr)
        sys.exit(5)


def survivors(folder, how, limit):
    "Exit codes and words of the processes that were not killed, and how long they took to end."
    os.environ['OMP_NUM_THREADS'] = '1'
    ctx = multiprocessing.get_context('forkserver')
    ctx.set_forkserver_preload(PRELOAD)
    port = free_port()
    ps = [ctx.Process(target=child, args=(r, 3, port, lose_one, (folder, how))) for r in range(3)]
    for p in ps: p.start()
    if how == signal.SIGKILL: ps[1].join(SECONDS)
    else:
        stat = Path(f'/proc/{ps[1].pid}/stat')
        while stat.read_text().split(') ')[-1][0] != 'T': time.sleep(.1)
    start = time.monotonic()
    for i in (0, 2): ps[i].join(limit)
    took, codes = time.monotonic() - start, [ps[i].exitcode for i in (0, 2)]
    for p in ps: p.kill()
    return codes, [(folder/f'said{i}').read_text() for i in (0, 2)], took


@pytest.mark.slow
def test_a_killed_process_ends_the_others(tmp_path):
    "Within a minute, with a message, and the checkpoint is whole."
    from lt_signals.training.checkpoint import load_state
    codes, said, took = survivors(tmp_path, signal.SIGKILL, 60)
    assert load_state(tmp_path/'run'/'state.pt')['fit']['epoch'] == 1
    assert all(c in (1, 5) for c in codes), (codes, said)
    assert took < 60
    for text in said: assert 'another process has ended' in text or 'process is gone' in text or 'no sign' in text, text


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='needs /proc')
def test_a_process_that_stands_still_ends_the_others(tmp_path):
    codes, said, took = survivors(tmp_path, signal.SIGSTOP, 60)
    assert all(c in (1, 5) for c in codes), (codes, said)
    assert 'process 1 of 3 has given no sign for 30 s' in ''.join(said)
    assert took < 60


def train_with_everything(folder, kill_at=None, rank=None):
    "Everything random that training has; both processes, or one, may be killed under way, once."
    from fastai.callback.core import Callback
    from lt_signals.training.classifier_stages import Stage1, Stage2

    def before_batch(self):
        due = self.training and (self.n_epoch, self.epoch, self.iter) == kill_at and rank in (None, os.environ['RANK'])
        if not due or (folder/'killed').exists(): return
        if rank: (folder/'killed').touch()
        os.kill(os.getpid(), signal.SIGKILL)
    learn = make_learner(8, dropout_rate=.3, augment=['RandomTimeShift', 'RandomGaussianNoise'])
    stages = [Stage1(epochs=4, lr=1e-2, sampler='sqrt', drw_start=.5, patience=2, ema_decay=.9, mixup=.2),
              Stage2(mode='lws', epochs=1, lr=1e-1)]
    train(learn, stages, folder, [Callback(before_batch=before_batch)])


def test_processes_end_alike(ends):
    "Dropout, BatchNorm, augmentation, mixup, averaging: alike at the end."
    assert_same(ends[0]/'everything')


def assert_as_unbroken(folder, unbroken):
    "The same weights, bit for bit, and the same results as a run that nothing has stopped."
    for f in (folder, unbroken): assert_same(f)
    (weights, results), (weights2, results2) = outcome(folder), outcome(unbroken)
    assert results == results2
    for k in weights: assert (weights[k] == weights2[k]).all(), f'{k} differs after resuming'


@pytest.mark.slow
def test_processes_resume(tmp_path, ends):
    "The same command again, after all processes were killed."
    assert -signal.SIGKILL in launch(2, train_with_everything, tmp_path, (4, 2, 3))
    assert launch(2, train_with_everything, tmp_path) == [0, 0]
    assert_as_unbroken(tmp_path, ends[0]/'everything')


@pytest.mark.slow
def test_torchrun_restarts_from_the_checkpoint(tmp_path, ends):
    "One process is killed; `torchrun --max-restarts` begins all again, and they end as if nothing had been."
    p = torchrun(2, sys.executable, '-c', f'{call}t.train_with_everything(Path({str(tmp_path)!r}), (4, 2, 3), "1")', restarts=1)
    try: _, err = p.communicate(timeout=SECONDS)
    finally: p.terminate()
    assert p.returncode == 0, err[-3000:]
    assert (tmp_path/'killed').exists()
    assert_as_unbroken(tmp_path, ends[0]/'everything')


def stumble(folder, what):
    "Something goes wrong in the second process only."
    from fastai.callback.core import Callback
    from lt_signals.core.errors import LTSError
    from lt_signals.training.classifier_stages import Stage1

    def after_loss(self):
        if self.training and os.environ['RANK'] == '1' and self.iter == 1:
            if what == 'raise': raise RuntimeError('out of memory')
            self.learn.loss_grad = self.loss_grad*float('nan')
            self.learn.loss = self.loss_grad.clone()
    try: train(make_learner(8), [Stage1(epochs=2)], folder, [Callback(after_loss=after_loss)])
    except LTSError as e:
        assert 'NaN' in str(e)
        sys.exit(3)


def test_an_error_in_one_process_ends_all(tmp_path, ends):
    "A loss that is NaN in one process is told by both (`ends`); another error ends the other process too."
    assert 0 not in launch(2, stumble, tmp_path, 'raise')


def run(folder):
    from lt_signals.runs.experiment import run_experiment
    overrides = dict(o.split('=') for o in small_run)
    path = run_experiment(**overrides, out_dir=str(folder/'runs'), **{'model.options': dict(depth=2, width=4)}).path
    (folder/f'told{os.environ["RANK"]}').write_text(str(path))


small_run = ['device=cpu', 'exp_name=two', 'model.name=ResNet1D', 'training.epochs=1', 'stage2.epochs=1',
             'synth.n_classes=4', 'synth.n_max=32', 'synth.imbalance_ratio=4', 'synth.n_valid=4', 'synth.n_test=4',
             'data.batch_size=8', 'visualization.dpi=40']


def check_folder(runs):
    "One folder, one log, one set of results."
    folder, = (f for f in runs.iterdir() if not f.is_symlink())
    results = json.loads((folder/'results'/'results.json').read_text())
    assert (results['processes'], len(results['stages'])) == (2, 3)
    assert len((folder/'logs'/'training.log').read_text().splitlines()) == 2
    return folder


@pytest.mark.slow # processes that import everything
def test_a_run_is_written_once(tmp_path):
    assert launch(2, run, tmp_path) == [0, 0]
    folder = check_folder(tmp_path/'runs')
    for rank in (0, 1): assert (tmp_path/f'told{rank}').read_text() == str(folder)


def train_two_tasks(folder, bs, weighting):
    "Two tasks, weighed by variances that the loss learns, which differ from process to process at first, or by projected gradients."
    import torch
    from lt_signals.core.random import setup_seed
    from lt_signals.runs.prepare import run_loaders
    from lt_signals.tasks.config import make_run_config
    from lt_signals.tasks.task import RunContext, tasks
    from lt_signals.training.fit import run_stages

    cfg = make_run_config({
        'task': 'amc', 'amc.weighting': weighting, 'amc.mods': ['BPSK', 'GMSK'], 'amc.snr_list': [0, 10], 'amc.n_per': 20, 'amc.length': 48,
        'amc.dropout': 0., 'data.batch_size': bs, 'training.epochs': 2, 'training.lr': .05, 'training.optimizer': 'SGD',
        'training.grad_clip': 0., 'model.options': dict(depth=2, width=4, norm_kind='gn', branch=False)})
    task = tasks.create('amc')
    dls, _ = run_loaders(cfg, 'cpu')
    setup_seed(1 + int(os.environ['RANK']))
    learn = task.learner(cfg, dls)
    if weighting == 'uncertainty': learn.loss_func.weighting.log_var.data += .3*int(os.environ['RANK'])
    ctx = RunContext(learn, seed=3, evaluate=task.evaluate, cfg=cfg)
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx(): results = run_stages(ctx, task.stages(cfg))
    rank = os.environ['RANK']
    torch.save(dict(model=learn.model.state_dict(), loss=learn.loss_func.state_dict()), folder/f'{rank}.pt')
    (folder/f'{rank}.json').write_text(json.dumps(results[0]['history']))


def check_two_tasks(two, one):
    "Alike in both processes, and as in one process up to rounding; the loss's state."
    import torch
    a, b, c = (torch.load(f) for f in (two/'0.pt', two/'1.pt', one/'0.pt'))
    for part in a:
        for k in a[part]:
            assert torch.equal(a[part][k], b[part][k]), f'{k} differs between the processes'
            torch.testing.assert_close(a[part][k], c[part][k], atol=2e-5, rtol=1e-4, msg=k)
    ha, hb, hc = (json.loads(f.read_text()) for f in (two/'0.json', two/'1.json', one/'0.json'))
    assert ha == hb
    for x, y in zip(ha, hc): assert x == pytest.approx(y, abs=1e-4)
    return a['loss']


def test_projected_gradients_are_those_of_one_process(ends):
    "They are averaged task by task, and projected then; DDP never sees them."
    check_two_tasks(*(folder/'pcgrad' for folder in ends))


@pytest.mark.slow
def test_two_processes_learn_the_weights_of_tasks_as_one(tmp_path):
    "The loss's own parameters are outside of the model, which is all that DDP looks after."
    two, one = tmp_path/'two', tmp_path/'one'
    for folder in (two, one): folder.mkdir()
    assert launch(2, train_two_tasks, two, 8, 'uncertainty') == [0, 0]
    assert launch(1, train_two_tasks, one, 16, 'uncertainty') == [0]
    assert check_two_tasks(two, one)['weighting.log_var'].abs().min() > 1e-3


call = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_distributed as t; from pathlib import Path; '


def torchrun(n, *command, restarts=0):
    "`torchrun` with `n` processes of this machine, under way."
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', str(n), '--master_port', str(free_port()),
               '--max_restarts', str(restarts), '--no-python', *command]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, 'OMP_NUM_THREADS': '1'})


@pytest.mark.slow
@pytest.mark.parametrize('n', [61, 97])
@pytest.mark.parametrize('world', [1, 2, 4])
def test_every_signal_is_seen_once_under_torchrun(tmp_path, world, n):
    p = torchrun(world, sys.executable, '-c', f'{call}t.share_epochs(Path({str(tmp_path)!r}), {n})')
    try: _, err = p.communicate(timeout=SECONDS)
    finally: p.terminate()
    assert p.returncode == 0, err[-3000:]
    check_shares(tmp_path, n, world)


def children(pid):
    "Processes that were started by a process, in order (Linux)."
    return [int(i) for i in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='needs /proc')
def test_a_killed_rank_ends_lts_train(tmp_path):
    "All processes of the command end within a minute, and say why."
    p = torchrun(2, str(Path(sys.executable).parent/'lts_train'), f'out_dir={tmp_path}', *small_run, 'training.epochs=500',
                 'model.options.depth=2', 'model.options.width=4')
    try:
        until = time.monotonic() + SECONDS
        while not list(tmp_path.glob('*/checkpoints/*')) and time.monotonic() < until and p.poll() is None: time.sleep(.2)
        pids = children(p.pid)
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGKILL)
        start = time.monotonic()
        _, err = p.communicate(timeout=60)
    finally: p.kill()
    assert p.returncode != 0 and time.monotonic() - start < 60
    assert not any(Path(f'/proc/{i}').exists() for i in pids)
    assert 'another process has ended' in err or 'process is gone' in err or 'SIGKILL' in err or 'Signal 9' in err, err[-3000:]
    print(err[-1500:])


@pytest.mark.slow
def test_lts_train_under_torchrun(tmp_path):
    "The command of the documentation."
    p = torchrun(2, str(Path(sys.executable).parent/'lts_train'), f'out_dir={tmp_path}', *small_run,
                 'model.options.depth=2', 'model.options.width=4')
    try: out, err = p.communicate(timeout=SECONDS)
    finally: p.terminate()  # torchrun ends its processes then
    assert p.returncode == 0, err[-3000:]
    check_folder(tmp_path)
    assert out.count('results and figures') == 1
