"""`explain_prediction` for networks of every task: where, in which units, and what is refused."""
import numpy as np
import pandas as pd
import pytest
import torch

from lt_signals.core.errors import ConfigError
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model
from lt_signals.models.multitask import create_multitask
from lt_signals.runs.explanation import explain_prediction
from lt_signals.runs.finished import FinishedRun
from lt_signals.runs.recipe import Recipe
from lt_signals.tasks.config import make_run_config


def run_of(task, model, classes, shape, kind, rate=None, **facts):
    "An untrained network as a finished run."
    facts = dict(classes=classes, class_counts=[1]*len(classes), shape=list(shape), **facts)
    recipe = Recipe(task, {}, facts, dict.fromkeys(classes, 'many'), kind, rate)
    return FinishedRun(recipe, model.eval(), make_run_config(task=task))


def check(o, n, names):
    assert list(o.table) == [*names, 'share'] and len(o.table) == n
    assert np.isclose(o.table['share'].abs().sum(), 1)
    assert (o.table.iloc[:, 1] > o.table.iloc[:, 0]).all() and (o.table.iloc[:, 3] > o.table.iloc[:, 2]).all()
    assert set(o.checks(n_random=2)) >= {'randomised', 'deletion', 'insertion', 'trusted'}
    assert o.show().get_title().startswith(str(o.answer))


@pytest.fixture(autouse=True)
def seeded(): torch.manual_seed(0)


HERTZ = ('t_start_s', 't_stop_s', 'low_hz', 'high_hz')


def test_modulation_and_snr():
    parts = dict(modulation=['BPSK', 'QPSK', '8PSK'], snr=['0 dB', '10 dB'])
    net = create_multitask('ResNet1D', {k: len(v) for k, v in parts.items()}, 2, depth=2, width=8)
    run = run_of('amc', net, parts['modulation'], (2, 128), 'signal', 2e5, tasks=parts, snr_values=[0., 10.])
    x = torch.randn(2, 128)
    check(explain_prediction(run, x, 'gradcam', parts=8), 8, HERTZ)
    o = explain_prediction(run, x, over='both', parts=(4, 8), task='snr', target='10 dB')
    check(o, 32, HERTZ)
    assert o.answer == '10 dB' and o.table.high_hz.max() == 1e5 and np.isclose(o.table.t_stop_s.max(), 128/2e5)
    with pytest.raises(ConfigError, match='must be one of 0 dB, 10 dB'): explain_prediction(run, x, task='snr', target='QPSK')


def test_window_of_a_recording(tmp_path):
    "The time of a window counts from the beginning of its recording, the frequency from where it was tuned to."
    run = run_of('emitter', create_model('ConvNetADSB', 2, 2), ['A', 'B'], (2, 128), 'signal', 1e6)
    store = SignalStore.from_arrays(torch.randn(3, 2, 128), sample_rate=1e6)
    o = explain_prediction(run, store, index=2, parts=4)
    check(o, 4, HERTZ)
    assert torch.allclose(o.x, store.take([2])[0])
    with pytest.raises(Exception, match='3 samples were given'): explain_prediction(run, store, index=3)


def test_several_labels():
    run = run_of('defects', create_model('resnet10_cbam', 3, 1, image_size=[32, 64]), ['pit', 'scratch', 'patch'], (1, 32, 64), 'image')
    image = torch.rand(1, 32, 64)
    for method in ('occlusion', 'integrated_gradients', 'cbam'):
        o = explain_prediction(run, image, method, target='scratch', parts=(8, 4))
        check(o, 32, ('left', 'right', 'top', 'bottom'))
    assert o.table.right.max() == 64 and o.table.bottom.max() == 32
    assert np.isclose(o.probability, torch.sigmoid(run.outputs(image[None])[0, 1]).item())


def test_crop_in_seconds_and_hertz():
    net = create_model('SignalClassifier', 2, 1, width=4, depth=2)
    run = run_of('detection', net, ['noise', 'signal'], (1, 32, 32), 'crop', 1e6)
    crop = torch.rand(1, 32, 32)
    check(explain_prediction(run, crop, parts=4), 16, ('left', 'right', 'top', 'bottom'))
    box = pd.Series(dict(t_start=.01, t_stop=.02, f_low=-1e4, f_high=5e4))
    o = explain_prediction(run, crop, parts=4, box=box, target='signal')
    check(o, 16, HERTZ)
    assert o.table.t_start_s.min() < .01 and o.table.t_stop_s.max() > .02
    assert o.table.low_hz.min() < -1e4 and o.table.high_hz.max() > 5e4
    with pytest.raises(ConfigError, match='looks at crops'): explain_prediction(run, 'capture.cu8')
