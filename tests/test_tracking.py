"""Runs followed by a table, TensorBoard and Weights & Biases (offline), in every task and stage."""
import warnings

import pandas as pd
import pytest

warnings.simplefilter('ignore')
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.results import load_run
from lt_signals.tasks.task import tasks

tiny = {
    'emitter': {'synth.n_classes': 4, 'synth.n_max': 20, 'synth.imbalance_ratio': 4., 'synth.n_valid': 4, 'synth.n_test': 4,
                'data.target_length': 64, 'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8), 'stage2.epochs': 1},
    'amc': {'amc.mods': ['BPSK', 'QPSK'], 'amc.snr_list': [0, 10], 'amc.n_per': 12, 'amc.length': 64, 'model.name': 'ResNet1D',
            'model.options': dict(depth=2, width=8)},
    'defects': {'defects.n': 60, 'defects.height': 32, 'defects.width': 64, 'model.name': 'resnet10_cbam'},
    'detection': {'detection.scenes': 8},
}


def follow(tmp_path, task, trackers, **more):
    "The folder of a small run of a task."
    return run_experiment({'task': task, 'out_dir': str(tmp_path), 'exp_name': f'{task}_followed', 'progress': False, 'device': 'cpu',
                           'training.epochs': 2, 'visualization.enabled': False, 'tracking': trackers, **tiny[task], **more})


def test_all_trackers_of_a_run(tmp_path, monkeypatch):
    "Each stage has its lines, and W&B the difference to the defaults as the description."
    pytest.importorskip('wandb', reason='the extra track is not installed')
    pytest.importorskip('tensorboard', reason='the extra track is not installed')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    run = follow(tmp_path, 'emitter', ['csv', 'tensorboard', 'wandb'])
    res = load_run(run.path)
    for stage in ('stage1', 'stage2'):
        history = next(s['history'] for s in res['stages'] if s['name'] == stage)
        table = pd.read_csv(run.logs/f'{stage}.csv')
        assert table.valid_loss.round(4).tolist() == [round(h['valid_loss'], 4) for h in history]
        assert any((run.logs/'tensorboard'/stage).glob('events.*'))
    file, = run.logs.glob('wandb/offline-run-*/*.wandb')
    told = file.read_bytes()
    assert b'lts_train' in told and b'model.name=ResNet1D' in told and b'stage1.overall' in told


@pytest.mark.parametrize('task', sorted(tasks))
def test_every_task_is_followed(tmp_path, task):
    "A line an epoch, of every task."
    if task not in tiny: pytest.fail(f'{task} has no small configuration here')
    run = follow(tmp_path, task, ['csv'])
    stages = [s for s in load_run(run.path)['stages'] if s.get('history')]
    assert stages
    for s in stages: assert len(pd.read_csv(run.logs/f'{s["name"]}.csv')) == len(s['history'])
