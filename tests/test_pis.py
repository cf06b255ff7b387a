"""A measurement of perturbation impact that is killed (`kill -9`) goes on where it was, and the commands agree on a real run.

The process is killed between two files and in the middle of writing one; what the next process ends with is what one process alone
finds. `lts_perturb` writes the very images that `lts_pis` judges: predictions on the files are those of the measurement.
"""
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

NET = dict(image_size=32, backbone_options=dict(channels=[8, 8, 8, 8], layers=[1]*4))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "Folder of a small run on synthetic constellations."
    from lt_signals.runs.experiment import run_experiment
    return run_experiment({
        'task': 'amc', 'out_dir': str(tmp_path_factory.mktemp('runs')), 'progress': False, 'device': 'cpu', 'amc.n_per': 20,
        'amc.mods': ['BPSK', '16QAM'], 'amc.snr_list': [0., 20.], 'amc.length': 128, 'training.epochs': 2, 'training.lr': 5e-3,
        'data.batch_size': 8, 'data.test_ratio': .5, 'model.name': 'resnet18', 'model.options': NET,
        'visualization.enabled': False}).path


def measure(run, folder, kill=None):
    "Measure to a folder, a file a batch; `kill` = (n, whether in the middle of it) ends the process at the n-th file."
    from lt_signals.explain import measure as module
    from lt_signals.runs.results import open_run
    write, count = module._write_part, iter(range(1, 1000))

    def write_or_die(*args):
        if kill and next(count) == kill[0]:
            if kill[1]:
                os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        write(*args)

    module._write_part = write_or_die
    o = open_run(run, 'cpu')
    return module.Probe(o.model, percent=[5, 50]).measure_to(folder, o.dl, every=0)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')
@pytest.mark.parametrize('within', [pytest.param(False, marks=pytest.mark.slow), True])
def test_goes_on_after_kill(run, tmp_path, within):
    p = multiprocessing.get_context('fork').Process(target=measure, args=(run, tmp_path/'killed', (3, within)))
    p.start()
    p.join(300)
    assert p.exitcode == -signal.SIGKILL
    assert len([*(tmp_path/'killed').glob('part_*.npz')]) == 2
    resumed, alone = measure(run, tmp_path/'killed'), measure(run, tmp_path/'alone')
    assert len(resumed) == len(alone) == 40
    for name in ('taken', 'valid', 'changed'):
        assert np.array_equal(getattr(resumed, name), getattr(alone, name))
    for task, right in alone.right.items():
        assert np.array_equal(resumed.right[task], right)
    assert resumed.facts.equals(alone.facts)


def test_commands_agree(run, tmp_path, capsys):
    import pandas as pd
    from lt_signals.data.loaders import SignalDL
    from lt_signals.evaluation.multitask import predict_tasks
    from lt_signals.explain.perturbed_sets import PerturbationDataset
    from lt_signals.apps.perturb import perturb_command
    from lt_signals.runs.results import open_run
    from lt_signals.apps.pis import pis_command
    pis_command([str(run), 'percent=5,20', 'curve=0', 'n_boot=50', 'device=cpu'])
    assert '40 samples; accuracy: modulation' in capsys.readouterr().out
    perturb_command([str(run), f'out={tmp_path}', 'percent=20', 'device=cpu'])
    assert '40 samples, 3 perturbations' in capsys.readouterr().out
    table = pd.read_csv(Path(run)/'results'/'pis'/'pis.csv').query('f_nominal == .2').set_index(['task', 'order'])
    o = open_run(run, 'cpu')
    for order in ('top', 'bottom', 'random'):
        data = PerturbationDataset(tmp_path, f'{order}20_blackout')
        assert sorted(data.meta['index']) == sorted(o.dl.indices)
        preds = predict_tasks(o.model, SignalDL(data, targets=o.dl.targets))
        for task, p in preds.labels.items():
            right = (p == preds.targets[task]).float().mean()
            assert abs(right - table.loc[(task, order), 'after']) <= 1/40 + 1e-6  # 16 bits may turn one close call


def test_orders_by_attribution(run, tmp_path, capsys):
    "Grad-CAM as the score, and another imputation."
    from lt_signals.apps.pis import pis_command
    pis_command([str(run), 'percent=20', 'curve=0', 'n_boot=50', 'device=cpu', 'score=gradcam', 'task=snr', 'orders=top,bottom',
                 'impute=noisy_linear', f'out={tmp_path}'])
    assert 'PIS of combined' in capsys.readouterr().out
    assert (tmp_path/'top_minus_bottom.csv').exists()
    assert pis_command([str(run), 'score=gradcan', 'device=cpu', f'out={tmp_path}']) == 1
    assert "unknown attribution 'gradcan': did you mean 'gradcam'?" in capsys.readouterr().err
