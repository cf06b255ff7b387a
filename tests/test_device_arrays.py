"""Files that hold one array a device, and long arrays in memory that are cut into windows."""
import h5py
import numpy as np
import pytest

from lt_signals.core.errors import LTSError
from lt_signals.io.readers import open_signals
from lt_signals.io.signal_store import SignalStore

z = np.exp(2j*np.pi*.1*np.arange(4000)).astype(np.complex64)
pairs = np.stack([z.real, z.imag])
forms = {'(n, 2, time)': pairs.reshape(2, 8, 500).swapaxes(0, 1), '(time, 2)': pairs.T, 'complex': z, 'complex (n, time)': z.reshape(8, 500)}


@pytest.mark.parametrize('form', forms)
def test_a_data_set_a_device(tmp_path, form):
    with h5py.File(tmp_path/'devices.h5', 'w') as f:
        for k, name in enumerate(('devA', 'devB', 'devC')): f[name] = np.ascontiguousarray(forms[form][:-k or None])
    store = open_signals(tmp_path/'devices.h5', window=256, gate_db=None)
    assert store.classes == ['devA', 'devB', 'devC'] and store.sample_shape == (2, 256) and min(store.class_counts) >= 6
    assert any('the 3 arrays devA, devB, devC are the classes' in n for n in store.source.notes)
    first = store.take([int(np.flatnonzero(store.labels == 0)[0])])[0]
    assert np.allclose(first, pairs[:, :256], atol=1e-5)
    assert len(open_signals(tmp_path/'devices.h5', signal_key='devB', window=256, gate_db=None).classes) == 0


def test_other_arrays_are_no_devices(tmp_path):
    with h5py.File(tmp_path/'two.h5', 'w') as f: f['noise'], f['clean'] = forms['(n, 2, time)'], forms['(n, 2, time)']
    with pytest.raises(LTSError, match='several arrays can be the signals'): open_signals(tmp_path/'two.h5')


def test_long_arrays_are_cut():
    store = SignalStore.from_arrays(np.stack([z, z.conj()]), ['up', 'down'], window=256, hop=128, gate_db=None)
    assert len(store) == 2*(1 + (4000 - 256)//128) and store.classes == ['down', 'up'] and list(store.meta.start[:3]) == [0, 128, 256]
    real = SignalStore.from_arrays(z.real, window=500, layout='t', gate_db=None)
    assert real.sample_shape == (2, 500) and np.allclose(real.take([3])[0], pairs[:, 1500:2000], atol=.01)
    with pytest.raises(LTSError, match='give `window`'): SignalStore.from_arrays(z[None], gate_db=3.)
