"""Small inputs as researchers bring them, each with its right value; skipped where the data are absent."""
import warnings

import numpy as np
import pytest

from lt_signals.core.files import shared_data
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.core.errors import LTSError
from lt_signals.io.readers import open_recordings, open_signals

cases = shared_data('cases')
pytestmark = pytest.mark.skipif(cases is None, reason='no folder shared/data/cases')


def complex_of(x): return np.asarray(x[:, 0]) + 1j*np.asarray(x[:, 1])

def tone(z, rate):
    "Frequency of the strongest line, Hz."
    return np.fft.fftfreq(len(z), 1/rate)[abs(np.fft.fft(z*np.hanning(len(z)))).argmax()]

def burst(z, low=.05):
    "First and last sample that are loud."
    loud = np.flatnonzero(np.convolve(abs(z), np.ones(16)/16, 'same') > low)
    return loud[0], loud[-1]


def test_two_bands():
    plain = open_signals(cases/'c01_two_bands.sigmf-meta')
    assert {'freq_lower_edge', 'freq_upper_edge'} <= set(plain.meta)
    cut = open_signals(cases/'c01_two_bands.sigmf-meta', band='cut')
    for name,freq in (('upper', 100.1e6), ('lower', 99.8e6)):
        i = int(np.flatnonzero(cut.labels == cut.classes.index(name))[0])
        row = cut.meta.iloc[i]
        assert abs(row.center_freq + tone(complex_of(cut.take([i]))[0], row.sample_rate) - freq) < 500
    assert not np.allclose(*(complex_of(cut.take([i])) for i in (0, 1)))

def test_silence():
    store = open_signals(cases/'c02_silence.cs8', sample_rate=1e6)
    assert 5 <= len(store) <= 8 and 'of 19 windows' in repr(store)
    assert all(4000 - 1024 < s < 8000 or 12000 - 1024 < s < 14000 for s in store.meta.start)

def test_column():
    store = open_signals(cases/'c04_column.mat')
    assert store.sample_shape == (2, 20000) and len(store) == 1
    first,last = burst(complex_of(store.take([0]))[0])
    assert abs(first - 4000) < 32 and abs(last - 8000) < 32

def test_iq_first():
    import h5py
    with pytest.raises(LTSError, match=r"40 signals \(2, 256\) with layout='cnt'"): open_signals(cases/'c05_iq_first.h5')
    store = open_signals(cases/'c05_iq_first.h5', layout='cnt')
    with h5py.File(cases/'c05_iq_first.h5') as f: x = f['X'][()]
    assert store.take(range(40)).shape == (40, 2, 256) and (np.asarray(store.take(range(40))) == x.swapaxes(0, 1)).all()

def test_halves():
    import h5py
    store = open_signals(cases/'c06_halves.h5')
    with h5py.File(cases/'c06_halves.h5') as f: x = f['data'][()]
    assert (np.asarray(store.take(range(40))).reshape(40, 512) == x.astype(np.float32)).all()
    assert store.classes == ['31', '32', '33', '34'] and store.class_counts.tolist() == [10]*4

def test_wav():
    rec, = open_recordings(cases/'c07_iq_auxi.wav')
    assert (rec.n, rec.sample_rate, rec.center_freq) == (20000, 1e6, 100e6)
    z = rec.read() @ [1, 1j]
    first,last = burst(z)
    assert abs(first - 4000) < 32 and abs(last - 8000) < 32
    assert abs(tone(z[4000:8000], 1e6) - 1e5) < 500 and abs(abs(z).max() - .5) < .02

def test_one_dimension():
    store = open_signals(cases/'c08_one_dimension.npy')
    assert len(store) == 1 and store.sample_shape == (2, 20000)

def test_folders():
    store = open_signals(cases/'c09_folders')
    assert store.classes == ['devA', 'devB'] and store.class_counts.tolist() == [57, 57]
    assert (store.meta.groupby('capture').size() == 19).all()

def test_cfile():
    assert open_signals(cases/'c10_cfile', format='cf32').classes == ['a', 'b', 'c']

def test_single():
    store = open_signals(cases/'c10b_single')
    with pytest.raises(LTSError, match='recording') as e: build_dataloaders(store, group='capture')
    assert '\n' not in str(e.value)

def test_nested():
    store = open_signals(cases/'c11_nested.h5')
    assert store.take(range(40)).shape == (40, 2, 256) and store.sample_rate == 1e6
    assert (store.labels >= 0).all()

def check_sentence(text):
    "It names a way on, in one line."
    assert '\n' not in text and 'Remedy' in text and '…' not in text, text

@pytest.mark.parametrize('path', sorted(cases.glob('c*')) if cases else [], ids=lambda p: p.name)
def test_opens_or_says_why(path):
    if path.suffix == '.sigmf-data': path = path.with_suffix('.sigmf-meta')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: store = open_signals(path)
        except LTSError as e: return check_sentence(str(e))
    assert np.isfinite(np.asarray(store.take(range(min(4, len(store)))))).all()
