"""Nothing there is an answer: recordings without a signal are no examples of a class, and noise of any shape is not given the name of one."""
import warnings

import numpy as np
import pytest
import torch

from lt_signals.core.runs import RunFolder
from lt_signals.evaluation.no_signal import make_noise, noise_shapes
from lt_signals.evaluation.suspects import suspects
from lt_signals.io.readers import open_signals
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.recognizer import Recognizer
from lt_signals.runs.results import read_results

RATE = 1e6
KEYED = 'band', 'carrier' # What single windows of keyed carriers look like to a network of eight channels


def telegram(k, seed, n=2**14):
    "Keyed telegrams of transmitter `k`, with a rhythm of its own, between pauses; complex."
    rng = np.random.default_rng([k, seed])
    bits = rng.integers(0, 2, n//(16 << k) + 1).repeat(16 << k)[:n]
    t = np.arange(n)
    z = .5*bits*(t//4096 % 2)*np.exp(2j*np.pi*(.05 + .1*k)*t + 1j*rng.uniform(0, 6))
    return z + .01*(rng.normal(size=(n, 2))@[1, 1j])

def write(path, z, gain=100):
    "8-bit I/Q."
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.stack([z.real, z.imag], 1)*gain + 127.5).round().clip(0, 255).astype(np.uint8).tofile(path)
    return path


@pytest.fixture(scope='module')
def tmp(tmp_path_factory): return tmp_path_factory.mktemp('no_signal')

@pytest.fixture(scope='module')
def path(tmp):
    "A run that has learned three transmitters; two files of one of them hold nothing but noise."
    for k in range(3):
        for i in range(9): write(tmp/'data'/f'tx{k}'/f'{i}.cu8', telegram(k, i))
    noise = .01*(np.random.default_rng(5).normal(size=(2**14, 2))@[1, 1j])
    write(tmp/'data'/'tx2'/'empty.cu8', noise)
    write(tmp/'data'/'tx2'/'gain.cu8', noise*np.repeat([1, 8], 2**13))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return run_experiment(out_dir=str(tmp/'runs'), seed=1, progress=False, device='cpu', visualization=dict(enabled=False),
                              data=dict(path=str(tmp/'data'), options=dict(window=512, sample_rate=RATE)), stage2=dict(enabled=False),
                              model=dict(name='ResNet1D', options=dict(depth=2, width=8)), training=dict(epochs=4, lr=.01),
                              openset=dict(score='energy')).path

@pytest.fixture(scope='module')
def r(path): return Recognizer.from_run(path)


def test_empty_recordings_are_no_examples(path, tmp):
    store = open_signals(tmp/'data', window=512, sample_rate=RATE)
    assert any('nothing but noise in 2 of 29' in n for n in store.notes), store.notes
    assert not store.meta.capture.str.contains('empty|gain').any()

def test_results_tell(path):
    res = read_results(path)
    heard = res['no_signal']
    assert set(heard['noise']) == {'below the gate', *noise_shapes} and all(heard['noise'][k] <= (.4 if k in KEYED else .05) for k in heard['noise'])
    assert heard['signals']['all'] < .05
    assert 'noise that is named in spite of all' in RunFolder(path).summary.read_text()

def test_noise_is_not_named(r, tmp):
    for shape in noise_shapes:
        z = make_noise(shape, 64, 512, seed=7)
        named = r.predict(torch.from_numpy(np.stack([z.real, z.imag], 1)))
        assert (named['class'] != 'no signal').mean() <= (.4 if shape in KEYED else .05), shape
        assert named.probability[named['class'] == 'no signal'].isna().all()

def test_by_recording(r, tmp):
    noise = .02*make_noise('band', 1, 2**14, seed=9)[0]
    files = [write(tmp/'new'/'noise.cu8', noise), write(tmp/'new'/'tx1.cu8', telegram(1, 77))]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for by in ('recording', 'event'):
            said = r.predict(files, by=by, sample_rate=RATE)
            of = said.groupby('source')['class'].agg(set)
            assert of['noise.cu8'] == {'no signal'} and of['tx1.cu8'] == {'tx1'}, said
            assert (said.loc[said['class'] == 'no signal', 'windows'] == 0).all()

def test_it_travels(r, tmp):
    own = Recognizer.from_pretrained(r.save_pretrained(tmp/'card'))
    assert torch.equal(own.no_signal.weight, r.no_signal.weight) and own.no_signal.bias == r.no_signal.bias

def test_suspects(tmp):
    write(tmp/'mixed'/'tx0'/'wrong.cu8', telegram(1, 50))
    for k in range(3):
        for i in range(6): write(tmp/'mixed'/f'tx{k}'/f'{i}.cu8', telegram(k, i))
    found = suspects(open_signals(tmp/'mixed', window=512, sample_rate=RATE))
    assert len(found) and 'wrong' in found.capture[0] and found.looks_like[0] == 'tx1'
