"""Two processes on the CPU (gloo) train as one process does, end alike, write once, resume, and do not hang.

Real processes, forked from a server that has done nothing but import; with `-m slow` also `torchrun … lts_train`.
"""
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

dist = pytest.importorskip('torch.distributed', reason='this torch has no torch.distributed')
pytestmark = pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available() and os.name == 'posix'),
                                reason='needs torch.distributed with gloo, and POSIX processes')
SECONDS = 300  # a process that takes longer hangs


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
    ctx.set_forkserver_preload(['lt_signals.tasks.amc', 'lt_signals.models.iq', 'torch._dynamo'])
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
    store = SignalStore.from_arrays(np.stack([x.real, x.imag], 1).astype(np.float32), y)
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
    stages = [Stage1(epochs=3, lr=.05, **common), Stage2(mode='crt', epochs=2, lr=.05, optimizer='SGD'), Stage3()]
    train(learn, stages, folder, [Callback(before_train=before_train)])
    (folder/f'drawn{os.environ["RANK"]}.json').write_text(json.dumps(drawn))


def test_two_processes_train_as_one(tmp_path):
    "Same draws in the same batches, so the same weights after stage 1, cRT and τ-normalisation."
    import numpy as np
    two, one = tmp_path/'two', tmp_path/'one'
    for folder in (two, one): folder.mkdir()
    assert launch(2, train_without_chance, two, 8) == [0, 0]
    assert launch(1, train_without_chance, one, 16) == [0]
    assert_same(two)
    parts = [json.loads((two/f'drawn{r}.json').read_text()) for r in (0, 1)]
    whole = json.loads((one/'drawn0.json').read_text())
    assert len(whole) == 5  # epochs of both stages
    for a, b, c in zip(*parts, whole): assert np.stack([a, b], 1).ravel().tolist() == c
    (weights, results), (weights1, results1) = outcome(two), outcome(one)
    for k in weights: np.testing.assert_allclose(weights[k], weights1[k], atol=2e-5, err_msg=k)
    for a, b in zip(results, results1):
        assert (a['best_epoch'], a.get('rows')) == (b['best_epoch'], b.get('rows'))
        for x, y in zip(a['history'], b['history']): assert x == pytest.approx(y, abs=1e-4)
    assert {p.name for p in (two/'run').iterdir()} == {p.name for p in (one/'run').iterdir()}


def train_with_everything(folder, kill_at=None):
    "Everything random that training has; both processes may be killed under way."
    from fastai.callback.core import Callback
    from lt_signals.training.classifier_stages import Stage1, Stage2

    def before_batch(self):
        if self.training and (self.n_epoch, self.epoch, self.iter) == kill_at: os.kill(os.getpid(), signal.SIGKILL)
    learn = make_learner(8, dropout_rate=.3, augment=['RandomTimeShift', 'RandomGaussianNoise'])
    stages = [Stage1(epochs=4, lr=1e-2, sampler='sqrt', drw_start=.5, patience=2, ema_decay=.9, mixup=.2),
              Stage2(mode='lws', epochs=1, lr=1e-1)]
    train(learn, stages, folder, [Callback(before_batch=before_batch)])


def test_processes_end_alike_and_resume(tmp_path):
    "Dropout, BatchNorm, augmentation, mixup, averaging: alike at the end, also after a kill."
    alone, killed = tmp_path/'alone', tmp_path/'killed'
    for folder in (alone, killed): folder.mkdir()
    assert launch(2, train_with_everything, alone) == [0, 0]
    assert -signal.SIGKILL in launch(2, train_with_everything, killed, (4, 2, 3))
    assert launch(2, train_with_everything, killed) == [0, 0]
    for folder in (alone, killed): assert_same(folder)
    (weights, results), (weights2, results2) = outcome(alone), outcome(killed)
    assert results == results2
    for k in weights: assert (weights[k] == weights2[k]).all(), f'{k} differs after resuming'


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


def test_an_error_in_one_process_ends_all(tmp_path):
    assert launch(2, stumble, tmp_path, 'nan') == [3, 3]
    shutil.rmtree(tmp_path/'run')
    codes = launch(2, stumble, tmp_path, 'raise')
    assert 0 not in codes


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


def test_a_run_is_written_once(tmp_path):
    assert launch(2, run, tmp_path) == [0, 0]
    folder = check_folder(tmp_path/'runs')
    for rank in (0, 1): assert (tmp_path/f'told{rank}').read_text() == str(folder)


def train_two_tasks(folder, bs):
    "Two tasks, weighed by variances that the loss learns, which differ from process to process at first."
    import torch
    from lt_signals.core.random import setup_seed
    from lt_signals.runs.prepare import run_loaders
    from lt_signals.tasks.config import make_run_config
    from lt_signals.tasks.task import RunContext, tasks
    from lt_signals.training.fit import run_stages

    cfg = make_run_config({
        'task': 'amc', 'amc.mods': ['BPSK', 'GMSK'], 'amc.snr_list': [0, 10], 'amc.n_per': 20, 'amc.length': 48,
        'amc.dropout': 0., 'data.batch_size': bs, 'training.epochs': 3, 'training.lr': .05, 'training.optimizer': 'SGD',
        'training.grad_clip': 0., 'model.options': dict(depth=2, width=4, norm_kind='gn', branch=False)})
    task = tasks.create('amc')
    dls, _ = run_loaders(cfg, 'cpu')
    setup_seed(1 + int(os.environ['RANK']))
    learn = task.learner(cfg, dls)
    learn.loss_func.weighting.log_var.data += .3*int(os.environ['RANK'])
    ctx = RunContext(learn, seed=3, evaluate=task.evaluate, cfg=cfg)
    with learn.no_bar(), learn.no_logging(), learn.distrib_ctx(): results = run_stages(ctx, task.stages(cfg))
    rank = os.environ['RANK']
    torch.save(dict(model=learn.model.state_dict(), loss=learn.loss_func.state_dict()), folder/f'{rank}.pt')
    (folder/f'{rank}.json').write_text(json.dumps(results[0]['history']))


def test_two_processes_learn_the_weights_of_tasks_as_one(tmp_path):
    "The loss's own parameters are outside of the model, which is all that DDP looks after."
    import torch
    two, one = tmp_path/'two', tmp_path/'one'
    for folder in (two, one): folder.mkdir()
    assert launch(2, train_two_tasks, two, 8) == [0, 0]
    assert launch(1, train_two_tasks, one, 16) == [0]
    a, b, c = (torch.load(f) for f in (two/'0.pt', two/'1.pt', one/'0.pt'))
    for part in a:
        for k in a[part]:
            assert torch.equal(a[part][k], b[part][k]), f'{k} differs between the processes'
            torch.testing.assert_close(a[part][k], c[part][k], atol=2e-5, rtol=1e-4, msg=k)
    assert a['loss']['weighting.log_var'].abs().min() > 1e-3
    ha, hb, hc = (json.loads(f.read_text()) for f in (two/'0.json', two/'1.json', one/'0.json'))
    assert ha == hb
    for x, y in zip(ha, hc): assert x == pytest.approx(y, abs=1e-4)


@pytest.mark.slow
def test_lts_train_under_torchrun(tmp_path):
    "The command of the documentation."
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(free_port()),
               '--no-python', str(Path(sys.executable).parent/'lts_train'), f'out_dir={tmp_path}', *small_run,
               'model.options.depth=2', 'model.options.width=4']
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try: out, err = p.communicate(timeout=SECONDS)
    finally: p.terminate()  # torchrun ends its processes then
    assert p.returncode == 0, err[-3000:]
    check_folder(tmp_path)
    assert out.count('results and figures') == 1
