"""A detector is a run like any other: trained by the command, killed and resumed bit for bit, used by `lts_detect`, and summarised."""
import json
import os
import signal

import pytest
from forked import python

TRAIN = """
import os, signal, sys
from fastai.callback.core import Callback
from lt_signals.apps.train import train_command
from lt_signals.tasks.task import tasks

class Dies(Callback):
    "The end of the process, where the environment asks for it: 'epoch batch'."
    def before_batch(self):
        at = tuple(map(int, os.environ['DIE'].split()))
        if self.training and (self.epoch, self.iter) == at: os.kill(os.getpid(), signal.SIGKILL)

task = tasks['detection']
learner = task.learner
def mortal(self, cfg, dls):
    learn = learner(self, cfg, dls)
    if 'DIE' in os.environ: learn.add_cb(Dies())
    return learn
task.learner = mortal
sys.exit(train_command(sys.argv[1:]))
"""
SUMMARIZE = """
import sys
from lt_signals.apps.summarize import summarize_command
sys.exit(summarize_command(sys.argv[1:]))
"""
DETECT = """
import sys
from lt_signals.synth.scenes import synth_scene, write_scene
from lt_signals.apps.detect import detect_command
write_scene(sys.argv[1], *synth_scene(99, n_samples=2**17), 1e6)
sys.exit(detect_command([sys.argv[1] + '.sigmf-meta', *sys.argv[2:]]))
"""


def arguments(folder, name, network):
    "A tiny run, with averaged weights and a best epoch among several."
    return ['task=detection', f'phase={network}', f'exp_name={name}', f'out_dir={folder}', 'detection.scenes=3', 'detection.size=16',
            'detection.others=3', 'model.options={width: 4, depth: 2}', 'sampling.at_least=48', 'training.epochs=5', 'training.lr=5e-3',
            'data.val_ratio=.3', 'device=cpu', 'progress=false', 'visualization.formats=[png]']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "For each phase a run left alone, and one that was killed and resumed."
    folder = tmp_path_factory.mktemp('detection')
    for network in ('siamese', 'direct'):
        status, _, err = python(TRAIN, *arguments(folder, f'{network}_alone', network))
        assert status == 0, err[-2000:]
        if os.name != 'posix': continue
        killed = [*arguments(folder, f'{network}_killed', network), 'resume=true']
        assert python(TRAIN, *killed, DIE='3 1')[0] == -signal.SIGKILL
        status, _, err = python(TRAIN, *killed)
        assert status == 0, err[-2000:]
    return folder


def results(run):
    "The results of a run, without what differs between two of them."
    res = json.loads((run/'results'/'results.json').read_text())
    return {k: v for k, v in res.items() if k not in ('name', 'timings')}


@pytest.mark.skipif(os.name != 'posix', reason='needs SIGKILL')
@pytest.mark.parametrize('network', ['siamese', 'direct'])
def test_killed_and_resumed_bit_for_bit(runs, network):
    alone, killed = runs/f'{network}_alone_latest', runs/f'{network}_killed_latest'
    for name in ('stage1', 'final'):
        assert (alone/'checkpoints'/f'{name}.safetensors').read_bytes() == (killed/'checkpoints'/f'{name}.safetensors').read_bytes()
    assert results(alone) == results(killed)


def test_it_says_what_it_is(runs):
    for network, model in (('siamese', 'SiameseNet'), ('direct', 'SignalClassifier')):
        res = results(runs/f'{network}_alone_latest')
        assert (res['model'], res['held_out'], list(res['summary']['stage1'])) == (model, True, ['f1', 'precision', 'recall', 'average_precision'])
        assert 0 < res['stages'][0]['threshold'] < 1
        assert (runs/f'{network}_alone_latest'/'results'/'plots'/'crop_scores.png').exists()


def test_lts_detect_searches_with_it(runs, tmp_path):
    status, out, err = python(DETECT, tmp_path/'scene', f'detector={runs}/siamese_alone_latest', f'out={tmp_path}/found', 'min_score=0', 'picture=false',
                              'min_cells=20')
    assert status == 0, err[-2000:]
    assert 'false_alarm=0.003' in out and 'given: min_cells' in out
    boxes = [json.loads(line) for line in open(tmp_path/'found'/'boxes.jsonl')]
    assert boxes and all(0 <= b['score'] <= 1 for b in boxes)


def test_it_is_ranked_by_f1(runs):
    status, out, err = python(SUMMARIZE, runs/'siamese_alone_latest', runs/'direct_alone_latest')
    assert status == 0, err[-2000:]
    assert 'Ranking by f1' in out and 'SiameseNet' in out and 'SignalClassifier' in out
