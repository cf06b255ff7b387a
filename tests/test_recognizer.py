"""A finished run pointed at new data: it says what its own evaluation said, and what a user does wrong ends in a right answer or one line."""
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lt_signals.apps.predict import predict_command
from lt_signals.core.errors import LTSError, SignalFileError
from lt_signals.core.runs import RunFolder
from lt_signals.evaluation.predictions import vote
from lt_signals.evaluation.stored import read_predictions
from lt_signals.io.readers import open_recordings, open_signals
from lt_signals.io.signal_store import SignalStore
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.recognizer import Recognizer
from lt_signals.runs.results import open_run
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.views.constellation import Constellation
from lt_signals.views.constellation_folders import write_constellations
from lt_signals.views.streams import open_streams

RATE = 1e6
TINY = dict(depth=2, width=8)


def signal(k, seed, n=2**14, rate=RATE):
    "Telegrams of transmitter `k`, at a frequency of its own, between pauses; complex, at any sample rate."
    rng = np.random.default_rng([k, seed])
    t = np.arange(int(n*rate/RATE))/rate*RATE
    z = .5*(t//2048 % 3 == 1)*np.exp(2j*np.pi*(.02 + .05*k)*t + 1j*rng.uniform(0, 6))
    return z + .01*np.sqrt(rate/RATE)*(rng.normal(size=(len(t), 2))@[1, 1j])

def write(path, z, gain=100, swap=False):
    "8-bit I/Q."
    x = np.stack([z.imag, z.real] if swap else [z.real, z.imag], 1)*gain + 127.5
    path.parent.mkdir(parents=True, exist_ok=True)
    x.round().clip(0, 255).astype(np.uint8).tofile(path)
    return path

def quiet(f, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return f(*args, **kwargs)

def finish(folder, **config):
    "A quick run."
    usual = dict(out_dir=str(folder/'runs'), seed=1, progress=False, device='cpu', visualization=dict(enabled=False), training=dict(epochs=1))
    return quiet(run_experiment, {**usual, **config}).path


@pytest.fixture(scope='module')
def tmp(tmp_path_factory): return tmp_path_factory.mktemp('recognizer')

@pytest.fixture(scope='module')
def recordings(tmp):
    "A run that has learned four transmitters from files, and can reject others; it is right."
    for k in range(4):
        for i in range(8): write(tmp/'train'/f'tx{k}'/f'{i}.cu8', signal(k, i))
    path = finish(tmp, data=dict(path=str(tmp/'train'), options=dict(window=256, sample_rate=RATE)), model=dict(name='ResNet1D', options=TINY),
                  stage2=dict(enabled=False), openset=dict(score='energy'), training=dict(epochs=4, lr=.01))
    return path, Recognizer.from_run(path)

def stored(path, r, name='class'):
    "The test part of a run, what a recognizer says of it, and the logits that the run has stored."
    run = open_run(path, 'cpu')
    store = run.dl.store.subset(run.dl.indices)
    kept = read_predictions(RunFolder(path).predictions)
    assert (kept.columns['index'] == run.dl.indices).all()
    return run, store, r.predict(store), kept.preds.by_task([name]).logits


# The run's own test part, task by task

def test_emitter(recordings):
    path, r = recordings
    run, store, table, logits = stored(path, r)
    best, number = logits['class'].softmax(-1).max(-1)
    assert np.abs(table.probability - best.numpy()).max() < 1e-6
    assert [*table['class']] == [r.classes[i] for i in number] and {'known', 'unknown_score', 'group'} <= {*table}
    names = run.dl.store.meta.capture.to_numpy()[run.dl.indices]
    votes = vote(logits['class'].log_softmax(-1), names)
    by = r.predict(store, by='recording').set_index('source').loc[votes.groups]
    assert np.abs(by.probability - votes.probs.max(-1).values.numpy()).max() < 1e-6
    files = [path.parent.parent/'train'/c for c in dict.fromkeys(names)]
    from_files = quiet(r.predict, files)
    assert len(from_files) == len(table) and np.abs(np.sort(from_files.probability) - np.sort(table.probability)).max() < 1e-6
    scores = r.evaluate(store)
    assert scores['rows']['test'] == pytest.approx(run.results['summary']['stage1'], nan_ok=True) and scores['test']['overall']['accuracy'] > .9

def test_amc(tmp):
    path = finish(tmp, task='amc', exp_name='amc', amc=dict(n_per=12, length=64), model=dict(name='ResNet1D', options=TINY))
    r = Recognizer.from_run(path)
    run, store, table, logits = stored(path, r, 'modulation')
    warm = r.recipe.facts['stages'][-1]['temperatures']
    assert {*warm} == {*logits} and all(.1 <= t <= 10 for t in warm.values())
    for name, column in (('modulation', 'modulation'), ('snr', 'snr_db')):
        best, number = (logits[name]/warm[name]).softmax(-1).max(-1)
        words = r.classes if name == 'modulation' else r.recipe.facts['snr_values']
        assert np.abs(table[f'{name}_probability'] - best.numpy()).max() < 1e-6 and [*table[column]] == [words[i] for i in number]
    assert r.evaluate(store)['rows']['test'] == pytest.approx(run.results['summary']['stage1'], nan_ok=True)
    assert {'true_modulation', 'true_snr', 'loss'} <= {*r.errors(store, 5)}
    assert r.confusion(store).to_numpy().sum() == len(store) == r.confusion(store, 'snr').to_numpy().sum()
    assert len(r.predict(signal(0, 0, 4096), by='event')) >= 1  # a recording is cut as the samples of the run are

def test_constellation_images(tmp):
    "A folder of images, as a run was trained on, is predicted as its own evaluation was."
    signals = synth_modulations(['BPSK', 'QPSK'], [0., 20.], 12, 64, seed=0)
    write_constellations(signals, tmp/'images', Constellation(16))
    path = finish(tmp, task='amc', exp_name='images', data=dict(path=str(tmp/'images')), model=dict(
        name='resnet18', options=dict(backbone_options=dict(layers=[1]*4, channels=[4]*4))))
    r = Recognizer.from_run(path)
    run, store, table, logits = stored(path, r, 'modulation')
    whole = r.predict(tmp/'images')
    assert len(whole) == len(run.dl.store) and {'modulation', 'snr_db', 'modulation_probability'} <= {*whole}
    assert np.abs(whole.modulation_probability.to_numpy()[run.dl.indices] - table.modulation_probability).max() < 1e-5
    files = sorted((tmp/'images').rglob('*.png'))[:3]
    assert len(r.predict(files)) == 3
    with pytest.raises(LTSError, match='images'): r.predict(np.zeros((2, 1, 8, 8), np.float32))

def test_defects(tmp):
    path = finish(tmp, task='defects', exp_name='defects', defects=dict(n=40, height=32, width=64), model=dict(name='resnet10_cbam'))
    r = Recognizer.from_run(path)
    run, store, table, logits = stored(path, r, 'labels')
    assert np.abs(table[r.classes].to_numpy() - logits['labels'].sigmoid().numpy()).max() < 1e-6 and 'labels' in table
    assert r.evaluate(store)['rows']['test'] == pytest.approx(run.results['summary']['stage1'], nan_ok=True)
    assert [*r.confusion(store).sum(axis=1)] == [len(store)]*len(r.classes) and len(r.errors(store, 3)) <= 3
    with pytest.raises(LTSError, match='images of shape'): r.predict(np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(LTSError, match="by='window'"): r.predict(store, by='recording')
    (tmp/'plates').mkdir()
    for i, x in enumerate(store.take(range(4))): Image.fromarray((255*x[0]).round().byte().numpy()).save(tmp/'plates'/f'{i}.png')
    found = r.predict(tmp/'plates')
    assert len(found) == 4 and np.abs(found[r.classes] - table[r.classes].iloc[:4]).to_numpy().max() < .02 # 8 bits
    pd.testing.assert_frame_equal(found[r.classes], r.predict(sorted((tmp/'plates').iterdir()))[r.classes])
    assert predict_command([str(path), str(tmp/'plates'), f'out={tmp}/plates.csv', 'device=cpu']) == 0
    assert np.abs(pd.read_csv(tmp/'plates.csv')[r.classes] - found[r.classes]).to_numpy().max() < 1e-6

def test_detection(tmp):
    path = finish(tmp, task='detection', exp_name='detection', detection=dict(scenes=4, size=16), training=dict(epochs=2), model=dict(name='SignalClassifier'))
    r = Recognizer.from_run(path)
    run, store, table, logits = stored(path, r)
    assert np.abs(table.score - logits['class'].diff(dim=1)[:, 0].sigmoid().numpy()).max() < 1e-6
    assert r.evaluate(store)['rows']['test'] == pytest.approx(run.results['summary']['stage1'], nan_ok=True)
    boxes = r.predict(write(tmp/'scene.cu8', signal(1, 0, 2**16)), sample_rate=RATE, min_score=0.)
    assert len(boxes) and {'source', 'start', 'count', 'start_s', 'duration_s', 'low_hz', 'high_hz', 'score'} <= {*boxes}


# What may be given

def test_everything_that_holds_signals(recordings, tmp):
    _, r = recordings
    file = write(tmp/'new'/'2.cu8', signal(2, 50))
    want = r.predict(file, sample_rate=RATE)
    assert {*want['class']} == {'tx2'} and want.start_s.iloc[0] == pytest.approx(want.start.iloc[0]/RATE)
    z = np.fromfile(file, np.uint8).reshape(-1, 2).astype(np.float32)@[1, 1j]/127.5 - (1 + 1j)
    rec, = open_recordings(file, sample_rate=RATE)
    stream, = open_streams(file, sample_rate=RATE)
    given = [str(file), tmp/'new', [file], pd.DataFrame(dict(path=[str(file)])), z, torch.from_numpy(z), np.stack([z.real, z.imag]), rec, stream, [rec]]
    for what in given:
        got = quiet(r.predict, what, sample_rate=RATE)
        assert len(got) == len(want) and np.abs(got.probability - want.probability).max() < 1e-4, type(what)
    store = open_signals(file, window=256, sample_rate=RATE, normalize='zscore')
    for what in (store, store.take(range(len(store))), store.take(range(len(store))).numpy(), [x for x in store.take(range(len(store)))]):
        assert np.abs(quiet(r.predict, what).probability - want.probability).max() < .01, type(what)
    assert r.predict(store[0]).shape[0] == 1
    assert sum(map(len, r.stream(file, sample_rate=RATE))) == len(want)
    for bad in (3, None, {}, []):
        with pytest.raises(LTSError, match='`what`'): r.predict(bad)

def test_table_of_stretches(recordings, tmp):
    "A DataFrame with start and stop: the stretches that its rows name, and no others."
    _, r = recordings
    files = [write(tmp/'parts'/f'{k}.cu8', signal(k, 55)) for k in (1, 3)]
    rows = [(str(files[0]), 2048, 4096), (str(files[1]), 8192, 10240), (str(files[1]), 2048, 3072)]
    table = pd.DataFrame(rows, columns=['path', 'start', 'stop'])
    got = quiet(r.predict, table, sample_rate=RATE)
    assert [*got['class']] == ['tx1']*8 + ['tx3']*12 and [*got.start[:8]] == [*range(2048, 4096, 256)]
    whole = r.predict(files[0], sample_rate=RATE).set_index('start')
    assert np.abs(got.probability[:8].to_numpy() - whole.probability.loc[got.start[:8]].to_numpy()).max() < 1e-6
    ends = quiet(r.predict, pd.DataFrame(dict(path=[str(files[0])], stop=[4096])), sample_rate=RATE, gate_db=None)
    assert ends.start.max() < 4096 and len(ends) == 16

def test_long_recordings_come_in_blocks(recordings, tmp):
    _, r = recordings
    file = write(tmp/'long.cu8', np.concatenate([signal(k % 4, k, 2**16) for k in range(40)]))
    tables = list(r.stream(file, sample_rate=RATE))
    whole = r.predict(file, sample_rate=RATE)
    assert len(tables) == 1 + (len(whole) - 1)//4096 and pd.concat(tables).start.is_monotonic_increasing
    one, = r.predict(file, sample_rate=RATE, by='recording').itertuples()
    events = r.predict(file, sample_rate=RATE, by='event')
    assert one.windows == len(whole) == events.windows.sum()
    assert len(events) == pytest.approx(40*2**16/(3*2048), rel=.05) and (events['count'] <= 2560).mean() > .98


# Six mistakes

def test_another_rate(recordings, tmp):
    _, r = recordings
    for rate in (2e6, 2.4e6, 4e6):
        file = write(tmp/f'{rate:g}.cu8', signal(1, 60, rate=rate))
        with pytest.warns(UserWarning, match='resampled'): table = r.predict(file, sample_rate=rate, by='recording')
        assert [*table['class']] == ['tx1'] and 'resampled' in table.attrs['notes'][0]
        assert table.duration_s[0] == pytest.approx(2**14/RATE, rel=.35) and table['count'][0] == pytest.approx(table.duration_s[0]*rate, abs=2)
    ready = SignalStore.from_arrays(signal(1, 61, rate=2e6)[4200:4200+6*640].reshape(6, 640), sample_rate=2e6)  # 320 samples each at the rate of the run
    assert {*quiet(r.predict, ready)['class']} == {'tx1'}
    with pytest.warns(UserWarning, match='not known'): r.predict(write(tmp/'unknown.cu8', signal(1, 62)))

def test_another_gain(recordings, tmp):
    _, r = recordings
    for gain in (5, 20, 250):
        assert {*r.predict(write(tmp/f'gain{gain}.cu8', signal(3, 70), gain), sample_rate=RATE, by='event')['class']} == {'tx3'}
    store = SignalStore.from_arrays(1e-3*signal(3, 71)[2048:2304][None], sample_rate=RATE)
    loud = SignalStore.from_arrays(1e3*signal(3, 71)[2048:2304][None], sample_rate=RATE, normalize='max')
    assert r.predict(store).probability[0] == pytest.approx(r.predict(loud).probability[0], abs=1e-5)

def test_swapped(recordings, tmp):
    _, r = recordings
    right, wrong = write(tmp/'iq.cu8', signal(2, 80)), write(tmp/'qi.cu8', signal(2, 80), swap=True)
    want = r.predict(right, sample_rate=RATE)
    for what in (wrong, open_recordings(wrong, sample_rate=RATE)[0], open_signals(wrong, window=256, sample_rate=RATE)):
        pd.testing.assert_frame_equal(r.predict(what, sample_rate=RATE, iq_order='QI').drop(columns='source'), want.drop(columns='source'), atol=1e-5)
    with pytest.raises(LTSError, match="'IQ' or 'QI'"): r.predict(wrong, iq_order='qi')
    for what in (wrong, open_signals(wrong, window=256, sample_rate=RATE)): # seen: the spectrum is mirrored
        with pytest.warns(UserWarning, match="give iq_order='QI'"): table = r.predict(what, sample_rate=RATE)
        assert 'mirrored' in table.attrs['notes'][-1]
    for what, more in ((right, {}), (wrong, dict(iq_order='QI')), (wrong, dict(iq_order='IQ')), (write(tmp/'other.cu8', signal(9, 81)), {})):
        assert not any('mirrored' in n for n in quiet(r.predict, what, sample_rate=RATE, **more).attrs['notes'])

def test_shorter(recordings, tmp):
    _, r = recordings
    with pytest.warns(UserWarning, match='filled up with zeros'):
        table = r.predict(write(tmp/'short.cu8', signal(0, 90)[2048:2248]), sample_rate=RATE)
    assert len(table) == 1 and table['count'][0] == 200
    ready = SignalStore.from_arrays(signal(0, 91)[2048:2048+1280].reshape(10, 128), sample_rate=RATE)
    with pytest.raises(LTSError, match='signals of 128 samples, and the run was trained on 256'): r.predict(ready)
    assert len(quiet(r.predict, ready, pad=True)) == 10
    with pytest.raises(LTSError, match='window=256'): r.predict(open_signals(tmp/'short.cu8', window=64, sample_rate=RATE))
    with pytest.raises(LTSError, match='is that of the run, 256'): r.predict(tmp/'short.cu8', window=64)

def test_unknown_classes(recordings, tmp):
    _, r = recordings
    for k in (7, 2, 0):
        for i in range(2): write(tmp/'other'/f'tx{k}'/f'{i}.cu8', signal(k, 100 + i))
    store = open_signals(tmp/'other', window=256, sample_rate=RATE)
    scores = r.evaluate(store)
    assert scores['test']['overall']['accuracy'] > .9 and scores['n_unknown'] == scores['openset']['n_unknown'] == store.class_counts[2] > 0
    assert any('unknown to the run: tx7' in n for n in scores['notes']) and any('not in the store: tx1, tx3' in n for n in scores['notes'])
    assert 'unknown to the run' in repr(scores)
    table = r.confusion(store)
    assert [*table.index] == [*r.classes, 'tx7'] and [*table.columns] == [*r.classes, 'unknown'] and table.to_numpy().sum() == len(store)
    assert {'sample', 'true', 'loss', 'class', 'probability'} <= {*r.errors(store)}
    with pytest.raises(LTSError, match='none of the classes'): r.evaluate(store.select_classes(['tx7']))

def test_empty_and_silent_files(recordings, tmp):
    _, r = recordings
    (tmp/'empty.cu8').write_bytes(b'')
    with pytest.raises(SignalFileError, match='empty'): r.predict(tmp/'empty.cu8')
    with pytest.raises(SignalFileError, match='does not exist'): r.predict(tmp/'nowhere.cu8')
    rng = np.random.default_rng(0)
    noise = write(tmp/'noise.cu8', .05*(rng.normal(size=(2**16, 2))@[1, 1j]))
    zeros = write(tmp/'zeros.cu8', np.zeros(2**14, complex))
    for by in ('window', 'recording', 'event'):
        table = quiet(r.predict, [noise, write(tmp/'t.cu8', signal(1, 5)), zeros], sample_rate=RATE, by=by)
        assert [*table.loc[table['class'] == 'no signal', 'source']] == [noise.as_posix(), zeros.as_posix()] or \
            {*table.loc[table['class'] == 'no signal', 'source']} == {'noise.cu8', 'zeros.cu8'}
        assert {*table.loc[table.source.str.contains('t.cu8'), 'class']} == {'tx1'}
    skipped = quiet(r.predict, [tmp/'empty.cu8', tmp/'t.cu8'], sample_rate=RATE, on_bad_file='skip')
    assert len(skipped) and 'left out' in skipped.attrs['notes'][0]
    with pytest.raises(LTSError, match='channels'): r.predict(np.zeros((3, 1, 256), np.float32))
