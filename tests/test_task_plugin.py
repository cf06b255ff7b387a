"""A task that is no part of the package: one file in a temporary folder, joined by `plugins=[…]`.

The number of tones in a signal: trained from the notebook's door and from the command line, killed and resumed bit for bit, summarised by its
own score, its network loaded and a prediction told in words, each in a process that has not seen the file before.
"""
import json
import os
import signal

import pytest
from forked import python

TASK = '''
"The number of tones in a signal"
import os, signal
from dataclasses import dataclass

import numpy as np
import pandas as pd
from fastai.callback.core import Callback

from lt_signals.core.config import opt
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model
from lt_signals.tasks.task import Task, data_seed, tasks
from lt_signals.training.learner import classifier_learner
from lt_signals.training.sections import loss_options


@dataclass
class TonesConfig:
    "Signals of one tone, two, …"
    most:int = opt(3, 'most tones in a signal', low=2)
    n:int = opt(30, 'signals of each number of tones', low=4)
    length:int = opt(48, 'samples of a signal', low=16)


def make(cfg):
    "Sums of tones in noise."
    t, rng = cfg.tones, np.random.default_rng(data_seed(cfg))
    y = np.repeat(np.arange(t.most), t.n)
    x = .1*rng.normal(size=(len(y), 2, t.length))
    for i,k in enumerate(y):
        for f in rng.uniform(.05, .45, k + 1):
            phase = 2*np.pi*(f*np.arange(t.length) + rng.random())
            x[i] += np.cos(phase), np.sin(phase)
    return SignalStore.from_arrays(x.astype(np.float32), y, [f'{k+1} tones' for k in range(t.most)])


class Dies(Callback):
    "The end of the process, where the environment asks for it: 'epoch batch'."
    def before_batch(self):
        at = tuple(map(int, os.environ['TONES_DIE'].split()))
        if self.training and (self.epoch, self.iter) == at: os.kill(os.getpid(), signal.SIGKILL)


@tasks.register('tones')
class Tones(Task):
    "How many tones a signal has"
    Section = TonesConfig
    defaults = {'exp_name': 'tones', 'model.name': 'ResNet1D', 'model.options': {'depth': 2, 'width': 4}, 'training.epochs': 3,
                'data.batch_size': 16, 'stage2.epochs': 2, 'visualization.enabled': False, 'tones.n': 24}
    aliases = {'tones.count': 'tones.most'}

    def open(self, cfg): return make(cfg)

    def learner(self, cfg, dls):
        learn = classifier_learner(dls, cfg.model.name, cfg.loss.name, loss_options=loss_options(cfg), **cfg.model.options)
        if 'TONES_DIE' in os.environ: learn.add_cb(Dies())
        return learn

    def model(self, cfg, results):
        return create_model(cfg.model.name, num_classes=len(results['classes']), in_channels=results['shape'][0], **cfg.model.options)

    def ranking(self, results):
        return {'counted': list(results['summary'].values())[-1]['overall']}

    def decode(self, cfg, results, outputs):
        return pd.DataFrame(dict(tones=outputs.argmax(-1).numpy() + 1))
'''


TRAIN = """
import sys
from lt_signals.runs.experiment import run_experiment
plugin, out, name, resume = sys.argv[1:]
run_experiment(task='tones', plugins=[plugin], out_dir=out, exp_name=name, resume=bool(int(resume)), progress=False, device='cpu', seed=5)
"""
COMMAND = """
import sys
from lt_signals.apps.train import train_command
sys.exit(train_command(sys.argv[1:]))
"""
ASK = """
import json, sys
from lt_signals.core.runs import RunFolder
from lt_signals.data.loaders import SignalDL
from lt_signals.evaluation.predictions import predict
from lt_signals.core.registry import load_plugins
from lt_signals.runs.results import load_run, open_run
from lt_signals.tasks.config import read_config
from lt_signals.tasks.task import tasks
load_plugins(sys.argv[2:])
model, dl, results = open_run(sys.argv[1], "cpu")
said = tasks.create('tones').decode(read_config(RunFolder(sys.argv[1])), results, predict(model, dl).logits)
right = (said.tones.to_numpy() - 1 == dl.labels).mean()
print(json.dumps(dict(right=right, overall=results['summary']['stage3']['overall'], ranking=tasks.create('tones').ranking(results))))
"""
SUMMARIZE = """
import sys
from lt_signals.apps.summarize import summarize_command
sys.exit(summarize_command(sys.argv[1:]))
"""


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "A run left alone, one that was killed and resumed, and one from the command line."
    folder = tmp_path_factory.mktemp('tones')
    (folder/'tones.py').write_text(TASK)
    train = lambda name, resume=0, **env: python(TRAIN, folder/'tones.py', folder/'runs', name, resume, **env)
    status, _, err = train('alone')
    assert status == 0, err[-2000:]
    if os.name == 'posix':
        for when in ('1 1', '2 0'): assert train('killed', 1, TONES_DIE=when)[0] == -signal.SIGKILL
        status, _, err = train('killed', 1)
        assert status == 0, err[-2000:]
    status, out, err = python(COMMAND, 'task=tones', f'plugins=[{folder/"tones.py"}]', f'out_dir={folder/"runs"}', 'exp_name=command',
                              'progress=false', 'device=cpu', 'seed=6', 'tones.count=2', 'training.epochs=1', 'stage2.enabled=false')
    assert status == 0, err[-2000:]
    return folder/'runs'


def results(run):
    return json.loads((run/'results'/'results.json').read_text())


@pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')
def test_killed_and_resumed_bit_for_bit(runs):
    alone, killed = runs/'alone_latest', runs/'killed_latest'
    for name in ('stage1', 'stage2', 'stage3', 'final'):
        assert (alone/'checkpoints'/f'{name}.safetensors').read_bytes() == (killed/'checkpoints'/f'{name}.safetensors').read_bytes()
    a, b = ({k: v for k, v in results(r).items() if k not in ('timings', 'name')} for r in (alone, killed))
    assert a == b


def test_the_command_line_knows_it(runs):
    "Its section, its other names and its defaults."
    config = json.loads((runs/'command_latest'/'config.json').read_text())
    assert config['tones'] == dict(most=2, n=24, length=48)
    assert config['model']['name'] == 'ResNet1D'
    assert results(runs/'command_latest')['classes'] == ['1 tones', '2 tones']


def test_a_wrong_name_is_told_in_one_line(runs):
    status, _, err = python(COMMAND, 'task=tones', f'plugins=[{runs.parent/"tones.py"}]', 'tones.mst=4')
    assert status and 'did you mean `tones.most`' in err and err.count('\n') == 1
    status, _, err = python(COMMAND, 'task=tones', 'plugins=[no_such_module]')
    assert status and '`plugins`' in err and err.count('\n') == 1


def test_its_network_answers_in_its_words(runs):
    "The file is imported where it is asked for, and not because a run names it."
    status, out, err = python(ASK, runs/'alone_latest')
    assert status and 'names a program' in err
    status, out, err = python(ASK, runs/'alone_latest', runs.parent/'tones.py')
    assert status == 0, err[-2000:]
    said = json.loads(out.splitlines()[-1])
    assert said['right'] == pytest.approx(said['overall'])
    assert said['ranking'] == {'counted': said['overall']}


def test_it_is_summarised_by_its_own_score(runs):
    status, out, err = python(SUMMARIZE, runs/'alone_latest', runs/'killed_latest')
    assert status and 'names a program' in err and err.count('\n') == 1, err
    status, out, err = python(SUMMARIZE, runs/'alone_latest', runs/'killed_latest', f'plugins=[{runs.parent/"tones.py"}]')
    assert status == 0, err[-2000:]
    assert 'counted' in out
